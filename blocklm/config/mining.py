"""The recipe's keys of which history is read and what of it becomes the corpus."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from blocklm.config.run import at_least_one
from blocklm.config.sampling import check_glob
from blocklm.config.urls import check_repository_url
from blocklm.errors import UserError


@dataclass(frozen=True)
class MiningArguments:
    """Which history is read and what of it becomes the corpus."""

    _argument_group_name: ClassVar[str] = "corpus"
    repo: list[str] = field(
        default_factory=lambda: ["."],
        metadata={"help": "Git repository to learn from: a path or URL, or several of them as one history."},
    )
    branch: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit whose history is read. Default: HEAD."}
    )
    fetch: bool = field(
        default=False, metadata={"help": "Ask the URL of a repository cloned earlier for new commits first."}
    )
    since: str | None = field(
        default=None, metadata={"help": "Read commits made on or after this date, such as 2024-01-31."}
    )
    until: str | None = field(default=None, metadata={"help": "Read commits made before or on this date."})
    max_commits: int | None = field(default=None, metadata={"help": "Read at most this many of the newest commits."})
    paths: list[str] | None = field(
        default=None, metadata={"help": "Learn only from files that match one of these globs (as in .gitignore)."}
    )
    exclude: list[str] | None = field(
        default=None, metadata={"help": "Learn nothing from files that match one of these globs."}
    )
    context_lines: int = field(default=3, metadata={"help": "Unchanged lines read around each change."})
    corpus_dir: str = field(default="corpora", metadata={"help": "Where clones of URLs and mined corpora are kept."})
    max_changed_lines: int = field(
        default=1000, metadata={"help": "A file's change with more added and deleted lines than this is dropped."}
    )
    disable_rules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of rules, as the funnel of `scripts/mine.py` lists them, that drop nothing."},
    )
    test_commits: int | None = field(
        default=None,
        metadata={"help": "Newest commits kept for the exam. Default: a tenth, at least 40 of many, at most 500."},
    )


def check_mining(mining: MiningArguments) -> None:
    """Raise `UserError` for values that no history can be read with."""
    at_least_one({"max_changed_lines": mining.max_changed_lines})
    at_least_one({"test_commits": mining.test_commits, "max_commits": mining.max_commits})
    if not mining.repo:
        raise UserError("`repo` names no repository", "give a path or URL, or leave `repo` out for this folder")
    for source in mining.repo:
        check_repository_url(source)
    for key in ("paths", "exclude"):
        for pattern in getattr(mining, key) or ():
            check_glob(key, pattern)
    if mining.context_lines < 0:
        raise UserError(f"`context_lines` cannot be {mining.context_lines}", "3 is git's own; 0 shows no context")
    for key in ("since", "until"):
        given = getattr(mining, key)
        try:
            datetime.fromisoformat("2024-01-31" if given is None else given)
        except ValueError:
            raise UserError(
                f"`{key}` is no date: {given!r}", "write it as 2024-01-31 or 2024-01-31T12:00:00"
            ) from None

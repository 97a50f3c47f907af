"""The recipe's keys for the history to read and the changes that become the corpus."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from blocklm.config.run import check_at_least_one
from blocklm.config.sampling import check_glob
from blocklm.config.urls import check_repository_url
from blocklm.errors import UserError


@dataclass(frozen=True)
class MiningArguments:
    """Which history is read, and which of its changes become the corpus."""

    _argument_group_name: ClassVar[str] = "corpus"
    repo: list[str] = field(
        default_factory=lambda: ["."],
        metadata={
            "help": "Git repository to learn from, as a path or URL (cloned once); several are joined into one history."
        },
    )
    split_each: bool = field(
        default=False,
        metadata={"help": "Split each of several repositories by its own time, instead of all as one history."},
    )
    branch: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit whose history is read. Default: HEAD."}
    )
    fetch: bool = field(default=False, metadata={"help": "Fetch new commits into the clone of a URL before mining."})
    since: str | None = field(
        default=None, metadata={"help": "Read commits made on or after this date, such as 2024-01-31."}
    )
    until: str | None = field(default=None, metadata={"help": "Read commits made before or on this date."})
    max_commits: int | None = field(default=None, metadata={"help": "Most commits to read, counted from the newest."})
    paths: list[str] | None = field(
        default=None,
        metadata={"help": "Learn only from files that match one of these globs, written as in .gitignore."},
    )
    exclude: list[str] | None = field(
        default=None, metadata={"help": "Learn nothing from files that match one of these globs."}
    )
    context_lines: int = field(default=3, metadata={"help": "Unchanged lines read around each change."})
    corpus_dir: str = field(default="corpora", metadata={"help": "Folder for clones of URLs and for mined corpora."})
    max_changed_lines: int = field(
        default=1000,
        metadata={"help": "Most added and deleted lines of one file's change; a larger change is dropped."},
    )
    disable_rules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of filter rules to switch off; `scripts/mine.py` lists the rules."},
    )
    test_commits: int | None = field(
        default=None,
        metadata={
            "help": "Number of newest commits kept for the exam. Default: a tenth of the history, but at most 500 and at "
            "least 40, or a quarter of the history if that is fewer."
        },
    )


def check_mining(mining: MiningArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a count, date or glob is not valid, no repository is named, or a URL holds a secret.
    """
    check_at_least_one({"max_changed_lines": mining.max_changed_lines})
    check_at_least_one({"test_commits": mining.test_commits, "max_commits": mining.max_commits})
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
        date = getattr(mining, key)
        try:
            datetime.fromisoformat("2024-01-31" if date is None else date)
        except ValueError:
            raise UserError(f"`{key}` is no date: {date!r}", "write it as 2024-01-31 or 2024-01-31T12:00:00") from None

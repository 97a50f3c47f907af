"""The recipe's keys of the repository's own check; light, as `blocklm.config.recipe` is."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from blocklm.errors import UserError


@dataclass(frozen=True)
class CheckArguments:
    """Whether edits that base and tuned model write pass a command of the repository, in a sandbox."""

    _argument_group_name: ClassVar[str] = "check"
    check_command: str | None = field(
        default=None,
        metadata={
            "help": "Shell command that a commit's tree must pass, such as `cargo check --offline` or `pytest -q tests`: after "
            "the exam it is run in a sandbox (bubblewrap) over trees with what the models wrote."
        },
    )
    check_items: int = field(default=20, metadata={"help": "Edits of the test commits that are written and checked."})
    check_samples: int = field(
        default=1,
        metadata={
            "help": "How often each is written. 1 takes the likeliest tokens, more are drawn at temperature 0.8."
        },
    )
    check_timeout: float = field(default=120.0, metadata={"help": "Seconds the command may take."})
    check_memory: float = field(
        default=4.0,
        metadata={
            "help": "GiB of memory its processes may use, and as much again the files they write, which stand in memory."
        },
    )
    check_binds: list[str] | None = field(
        default=None,
        metadata={
            "help": "Folders of this machine that it may read, such as ~/.cargo ~/.rustup or a virtual environment. Default: "
            "nothing but /usr."
        },
    )

    @property
    def binds(self) -> list[Path]:
        """Full paths of what it may read."""
        return [Path(bind).expanduser().absolute() for bind in self.check_binds or ()]


def check_checks(keys: CheckArguments, views: Collection[str]) -> None:
    """Refuse values that leave nothing to check.

    Raises:
        UserError: the first of them.
    """
    for key in ("check_items", "check_samples", "check_timeout", "check_memory"):
        least = 1 if key in ("check_items", "check_samples") else 0.01
        if not least <= getattr(keys, key) < float("inf"):
            raise UserError(f"`{key}` cannot be {getattr(keys, key)}", f"give a number from {least} up")
    if keys.check_command is not None and not keys.check_command.strip():
        raise UserError("`check_command` is empty", "leave it out to check nothing")
    if keys.check_command is not None and "edit" not in views:
        raise UserError(
            "`check_command` checks what is written in the view `edit`, and no such samples are rendered",
            "give `edit` a share in `views`",
        )

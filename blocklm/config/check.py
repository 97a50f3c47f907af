"""The recipe's keys for running the repository's own check on the models' edits; imports no torch."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from blocklm.errors import UserError


@dataclass(frozen=True)
class CheckArguments:
    """How edits of the base and the tuned model are checked by a command of the repository, in a sandbox."""

    _argument_group_name: ClassVar[str] = "check"
    check_command: str | None = field(
        default=None,
        metadata={
            "help": "Shell command that a commit's files must pass, such as `cargo check --offline` or "
            "`pytest -q tests`. After the exam it runs in a sandbox (bubblewrap) on the files with each model's edits."
        },
    )
    check_items: int = field(
        default=20,
        metadata={"help": "Number of edits of the test commits that each model writes and that are checked."},
    )
    check_samples: int = field(
        default=1,
        metadata={
            "help": "Answers for each edit. One is made of the likeliest tokens, several are drawn at temperature 0.8."
        },
    )
    check_timeout: float = field(default=120.0, metadata={"help": "Most seconds that the command may take."})
    check_memory: float = field(
        default=4.0,
        metadata={
            "help": "GiB of memory for the command's processes, and as much again for the files that they write, "
            "which are kept in memory."
        },
    )
    check_binds: list[str] | None = field(
        default=None,
        metadata={
            "help": "Folders of this machine that the command may read, such as ~/.cargo ~/.rustup or a virtual "
            "environment. Default: only /usr."
        },
    )

    @property
    def binds(self) -> list[Path]:
        """Absolute paths of the folders that the command may read."""
        return [Path(bind).expanduser().absolute() for bind in self.check_binds or ()]


def check_checks(keys: CheckArguments, views: Collection[str]) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a number is too small, the command is empty, or no sample of the view `edit` is rendered.
    """
    for key in ("check_items", "check_samples", "check_timeout", "check_memory"):
        least = 1 if key in ("check_items", "check_samples") else 0.01
        if not least <= getattr(keys, key) < float("inf"):
            raise UserError(f"`{key}` cannot be {getattr(keys, key)}", f"give a number from {least} up")
    if keys.check_command is not None and not keys.check_command.strip():
        raise UserError("`check_command` is empty", "leave it out to check nothing")
    if keys.check_command is not None and "edit" not in views:
        raise UserError(
            "`check_command` checks answers in the view `edit`, and no such samples are rendered",
            "give `edit` a share in `views`",
        )

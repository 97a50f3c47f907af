"""The recipe's keys for the size of the training, when it stops, and the run that it continues."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.errors import UserError

COUNTS = (
    "max_train_samples",
    "max_validation_samples",
    "early_stopping_patience",
    "target_tokens",
    "target_exposures",
)


@dataclass(frozen=True)
class RunArguments:
    """How much of the corpus is trained on, when training stops, and which run it continues."""

    _argument_group_name: ClassVar[str] = "run"
    max_train_samples: int | None = field(
        default=None,
        metadata={"help": "Most samples that an epoch reads. Default: all."},
    )
    target_tokens: int | None = field(
        default=None,
        metadata={
            "help": "Tokens to train on, in place of `num_train_epochs`: a part of a long history, and a short one up to "
            "`max_epochs` times."
        },
    )
    min_epochs: float = field(
        default=1.0,
        metadata={
            "help": "Fewest epochs that `target_tokens` may lead to; an epoch ends when it has read these tokens."
        },
    )
    max_epochs: float = field(default=4.0, metadata={"help": "Most epochs that `target_tokens` may lead to."})
    target_exposures: int | None = field(
        default=None,
        metadata={
            "help": "How often training should meet each definition of the repository. Samples with the definitions "
            "that were met least are read first. Training ends once all that can be met are, or with its epochs or "
            "steps. It cannot be combined with `phases`."
        },
    )
    max_validation_samples: int | None = field(
        default=200, metadata={"help": "Validation samples used at each evaluation, spread over the commits."}
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": "Stop after this many evaluations without a better validation loss, or once general text costs "
            "over 3 percent more bits than before the training."
        },
    )
    continue_from: str | None = field(
        default=None,
        metadata={
            "help": "Complete run to continue: start from its adapter, learn from the commits since then, and keep the "
            "old result if the exam finds the new one worse."
        },
    )
    replay_share: float = field(
        default=0.3,
        metadata={"help": "With `continue_from`: share of the samples that the earlier run had read already."},
    )


def check_run(run: RunArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a count or share is out of bounds, or no number of epochs is allowed.
    """
    if not 0 < run.min_epochs <= run.max_epochs:
        raise UserError(
            f"`min_epochs` {run.min_epochs} and `max_epochs` {run.max_epochs} leave no number of epochs",
            "give numbers with 0 < min_epochs <= max_epochs",
        )
    check_at_least_one({key: getattr(run, key) for key in COUNTS})
    if not 0 <= run.replay_share < 1:
        raise UserError(
            f"`replay_share` cannot be {run.replay_share}", "give a share below 1, such as 0.3; 0 replays nothing"
        )


def check_at_least_one(counts: Mapping[str, int | None]) -> None:
    """Raise `UserError` for a count below 1; None stands for a key that was left out."""
    for key, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"`{key}` must be at least 1, got {value}", f"correct `{key}` or leave it out")

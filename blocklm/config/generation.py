"""The recipe's keys for the texts that the model generates while it trains; imports no torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.errors import UserError


@dataclass(frozen=True)
class BehaviourArguments:
    """Which texts the model generates at each evaluation, and how."""

    _argument_group_name: ClassVar[str] = "behaviour"
    behavioral_items: int = field(
        default=8, metadata={"help": "Validation samples that the model answers at each evaluation; 0 for none."}
    )
    behavioral_prompts: list[str] | None = field(
        default=None, metadata={"help": "Your own texts, which the model continues at each evaluation."}
    )
    behavioral_max_new_tokens: int = field(
        default=64, metadata={"help": "Most tokens of an answer; only samples with a shorter solution are used."}
    )
    behavioral_temperature: float = field(
        default=0.0,
        metadata={"help": "Temperature at which answers are drawn, by `seed`; 0 takes the likeliest tokens."},
    )
    behavioral_epochs: float | None = field(
        default=None,
        metadata={"help": "Epochs between two generations. Default: generate at each evaluation of the loss."},
    )


def check_behaviour(behaviour: BehaviourArguments) -> None:
    """Check the keys of this group.

    Raises:
        UserError: a number is out of bounds, or a prompt is empty.
    """
    least: dict[str, tuple[float | None, float]] = {
        "behavioral_items": (behaviour.behavioral_items, 0),
        "behavioral_max_new_tokens": (behaviour.behavioral_max_new_tokens, 1),
        "behavioral_temperature": (behaviour.behavioral_temperature, 0),
    }
    for key, (value, bound) in least.items():
        if value is not None and not bound <= value < float("inf"):
            raise UserError(f"`{key}` cannot be {value}", f"give a number from {bound} up")
    if behaviour.behavioral_epochs is not None and not 0 < behaviour.behavioral_epochs < float("inf"):
        raise UserError(f"`behavioral_epochs` cannot be {behaviour.behavioral_epochs}", "0.5 generates twice an epoch")
    if not all(map(str.strip, behaviour.behavioral_prompts or [])):
        raise UserError("`behavioral_prompts` holds an empty text", "leave it out")

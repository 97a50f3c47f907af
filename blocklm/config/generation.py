"""The recipe's keys for what a model is asked to write while it trains; light, as `blocklm.config.recipe` is."""

from dataclasses import dataclass, field
from typing import ClassVar

from blocklm.errors import UserError


@dataclass(frozen=True)
class BehaviourArguments:
    """What the model is asked to write at every evaluation."""

    _argument_group_name: ClassVar[str] = "behaviour"
    behavioral_items: int = field(
        default=8, metadata={"help": "Questions from validation commits asked at each evaluation; 0 asks none."}
    )
    behavioral_prompts: list[str] | None = field(
        default=None, metadata={"help": "Texts of your own that the model goes on from at each evaluation."}
    )
    behavioral_max_new_tokens: int = field(
        default=64, metadata={"help": "Tokens an answer may have; only what is shorter is asked."}
    )
    behavioral_temperature: float = field(
        default=0.0,
        metadata={"help": "Answers are drawn at this temperature, by `seed`. 0 takes the likeliest token."},
    )
    behavioral_epochs: float | None = field(
        default=None, metadata={"help": "Ask every so many epochs. Default: at each evaluation of the loss."}
    )


def check_behaviour(behaviour: BehaviourArguments) -> None:
    """Refuse what cannot be asked.

    Raises:
        UserError: a number that makes no sense, or an empty prompt.
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
        raise UserError(f"`behavioral_epochs` cannot be {behaviour.behavioral_epochs}", "0.5 asks twice an epoch")
    if not all(map(str.strip, behaviour.behavioral_prompts or [])):
        raise UserError("`behavioral_prompts` holds an empty text", "leave it out")

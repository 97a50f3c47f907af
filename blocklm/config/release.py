"""The recipe's keys for the finished model: its form, its audit, and where it is pushed; imports no torch."""

import os
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from blocklm.errors import UserError

FORMS = ("adapter", "merged", "both")
HUB_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class HandoverArguments:
    """In which form the model is saved after training, and how it is audited before it is pushed."""

    _argument_group_name: ClassVar[str] = "handing over"
    save: str = field(
        default="adapter",
        metadata={
            "help": f"Form of the finished model: {', '.join(FORMS)}. A merged model is saved in the folder `merged` "
            "of the run directory; the adapter is kept too, because resuming and topping up need it."
        },
    )
    canaries: int = field(
        default=0,
        metadata={
            "help": "Number of made-up codes that are added to the training samples, each read once an epoch, to "
            "measure memorisation. 8 are enough."
        },
    )
    hub_base_model: str | None = field(
        default=None,
        metadata={
            "help": "The base model's name on the hub, needed for a push if `model_name_or_path` is a directory."
        },
    )


def check_handover(handover: HandoverArguments, model: dict[str, Any], training: dict[str, Any]) -> None:
    """Check the keys of this group, given the recipe's keys of the model and of the training.

    Raises:
        UserError: the form is unknown, a token stands in the recipe, or the push would fail or bypass the gate.
    """
    if handover.save not in FORMS:
        raise UserError(f"`save` cannot be {handover.save!r}", f"give one of {', '.join(FORMS)}")
    if handover.save != "adapter" and not model.get("use_peft"):
        raise UserError(
            f"`save: {handover.save}` merges an adapter, and `use_peft` is off",
            "leave out `save`: the full model is saved",
        )
    if handover.canaries < 0:
        raise UserError(f"`canaries` cannot be {handover.canaries}", "give 8, which are enough, or 0 for none")
    if training.get("hub_token"):
        raise UserError(
            "`hub_token` may not stand in a recipe: the trainer stores its arguments in clear text",
            "set the environment variable HF_TOKEN or run `hf auth login`",
        )
    if training.get("push_to_hub"):
        _check_push(model, handover, training)


def _check_push(model: dict[str, Any], handover: HandoverArguments, training: dict[str, Any]) -> None:
    check_hub_name("hub_model_id", training.get("hub_model_id"))
    for key in ("hub_always_push", "hub_revision"):
        if training.get(key):
            raise UserError(
                f"`{key}` has no effect here: a run is pushed once, after it passed the gate", f"leave out `{key}`"
            )
    if training.get("hub_strategy") not in (None, "end"):
        raise UserError(
            f"`hub_strategy: {training['hub_strategy']}` would push before the exam and the audit",
            "leave it out: the run is pushed after it passed both",
        )
    public_base(str(model["model_name_or_path"]), handover.hub_base_model)


def check_hub_name(key: str, name: Any) -> None:
    """Raise `UserError` unless `name` has the form ORGANISATION/NAME."""
    if not isinstance(name, str) or not HUB_NAME.fullmatch(name):
        raise UserError(f"`{key}` is no name on the hub: {name!r}", "give ORGANISATION/NAME")


def public_base(name: str, hub_base_model: str | None) -> str:
    """The base model's name on the hub.

    Args:
        name: the recipe's `model_name_or_path`.
        hub_base_model: the recipe's `hub_base_model`, which wins.

    Raises:
        UserError: the recipe names the base model by a directory alone.
    """
    if hub_base_model is not None:
        check_hub_name("hub_base_model", hub_base_model)
        return hub_base_model
    # `models/NAME` is the folder that our own hints name.
    if not HUB_NAME.fullmatch(name) or name.startswith((".", "models/")) or os.path.isdir(name):  # noqa: PTH112
        raise UserError(
            f"the base model is the directory `{name}`, which nobody else has",
            "name it on the hub: `hub_base_model: ORGANISATION/NAME`",
        )
    return name

"""The recipe's keys for what leaves a run: its form, what is audited, and where it may be pushed; light, as `recipe` is."""

import os
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from blocklm.errors import UserError

FORMS = ("adapter", "merged", "both")
HUB_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True)
class HandoverArguments:
    """What is handed over at the end, and how it is audited before it is pushed."""

    _argument_group_name: ClassVar[str] = "handing over"
    save: str = field(
        default="adapter",
        metadata={
            "help": f"What is handed over: {', '.join(FORMS)}. A merged model is a folder `merged` of the run directory; the "
            "adapter stays beside it, because resuming and topping up need it."
        },
    )
    canaries: int = field(
        default=0,
        metadata={
            "help": "Made-up codes planted among the samples, once per epoch each, to measure what is memorised."
        },
    )
    hub_base_model: str | None = field(
        default=None,
        metadata={"help": "Name on the hub of the base model, where `model_name_or_path` is a directory."},
    )


def check_handover(handover: HandoverArguments, model: dict[str, Any], training: dict[str, Any]) -> None:
    """Check these keys beside TRL's and transformers'.

    Raises:
        UserError: a form that there is not, or a push that could not be made or would pass by the gate.
    """
    if handover.save not in FORMS:
        raise UserError(f"`save` cannot be {handover.save!r}", f"give one of {', '.join(FORMS)}")
    if handover.save != "adapter" and not model.get("use_peft"):
        raise UserError(
            f"`save: {handover.save}` merges an adapter, and `use_peft` is off", "leave out `save`: the model is whole"
        )
    if handover.canaries < 0:
        raise UserError(f"`canaries` cannot be {handover.canaries}", "8 are enough; 0 plants none")
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
                f"`{key}` has no meaning here: one push is made, of what passed the gate", f"leave out `{key}`"
            )
    if training.get("hub_strategy") not in (None, "end"):
        raise UserError(
            f"`hub_strategy: {training['hub_strategy']}` would push before the exam and the audit",
            "leave it out: the run is pushed when it has passed them",
        )
    public_base(str(model["model_name_or_path"]), handover.hub_base_model)


def check_hub_name(key: str, name: Any) -> None:
    """Raise `UserError` unless `name` is one as on the hub."""
    if not isinstance(name, str) or not HUB_NAME.fullmatch(name):
        raise UserError(f"`{key}` is no name on the hub: {name!r}", "give ORGANISATION/NAME")


def public_base(name: str, given: str | None) -> str:
    """What the base model is called on the hub.

    Args:
        name: of the base as the recipe says it.
        given: `hub_base_model`.

    Raises:
        UserError: the recipe has only a directory for it.
    """
    if given is not None:
        check_hub_name("hub_base_model", given)
        return given
    # `models/NAME` is the folder that our own hints name.
    if not HUB_NAME.fullmatch(name) or name.startswith((".", "models/")) or os.path.isdir(name):  # noqa: PTH112
        raise UserError(
            f"the base model is the directory `{name}`, which nobody else has",
            "say with `hub_base_model: ORGANISATION/NAME` what it is on the hub",
        )
    return name

"""The recipe's keys for what TRL's ModelConfig leaves out of PEFT's LoRA, by PEFT's names; light, as `blocklm.config.recipe` is."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from blocklm.errors import UserError

INITS = ("gaussian", "eva")


@dataclass(frozen=True)
class LoraArguments:
    """How the adapter begins, and how fast its two halves learn."""

    _argument_group_name: ClassVar[str] = "adapter, beyond ModelConfig"
    init_lora_weights: str | None = field(
        default=None,
        metadata={"help": f"How the adapter begins: {' or '.join(INITS)}. Default: PEFT's, A at random and B zero."},
    )
    loraplus_lr_ratio: float | None = field(
        default=None, metadata={"help": "LoRA+: the learning rate of B is so many times that of A. Default: the same."}
    )


def check_lora(lora: LoraArguments, model: dict[str, Any]) -> None:
    """Check our keys beside ModelConfig's.

    Raises:
        UserError: a key without LoRA, which would do nothing, or an initialisation that is not safe.
    """
    asked = dataclasses.asdict(lora) | {key: model.get(key) for key in ("use_rslora", "use_dora")}
    if not model.get("use_peft") and (idle := [key for key, value in asked.items() if value]):
        raise UserError(f"`{idle[0]}` says something of LoRA, and `use_peft` is off", "set `use_peft: true`")
    if lora.init_lora_weights not in (None, *INITS):
        raise UserError(
            f"`init_lora_weights` cannot be {lora.init_lora_weights!r}: PEFT's others (PiSSA, OLoRA and so on) change the "
            "base model, so that the exam would ask another one and the adapter would not fit the one it was made for",
            f"leave it out, or give {' or '.join(INITS)}",
        )
    if lora.loraplus_lr_ratio is not None and not 1 <= lora.loraplus_lr_ratio < float("inf"):
        raise UserError(
            f"`loraplus_lr_ratio` cannot be {lora.loraplus_lr_ratio}",
            "give a number from 1 up; LoRA+'s authors use 16",
        )

"""The recipe's keys for the parts of PEFT's LoRA that TRL's ModelConfig lacks, by PEFT's names; imports no torch."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

from blocklm.errors import UserError

INITS = ("gaussian", "eva")


@dataclass(frozen=True)
class LoraArguments:
    """How the adapter is initialised, and the learning rates of its two matrices."""

    _argument_group_name: ClassVar[str] = "adapter, beyond ModelConfig"
    init_lora_weights: str | None = field(
        default=None,
        metadata={"help": f"Initial adapter: {' or '.join(INITS)}. Default: PEFT's, with A at random and B zero."},
    )
    loraplus_lr_ratio: float | None = field(
        default=None, metadata={"help": "LoRA+: learning rate of B as a multiple of that of A. Default: equal rates."}
    )


def check_lora(lora: LoraArguments, model: dict[str, Any]) -> None:
    """Check the keys of this group, given the recipe's keys of ModelConfig.

    Raises:
        UserError: a key is set that has no effect without LoRA, or the initialisation would change the base model.
    """
    lora_keys = dataclasses.asdict(lora) | {key: model.get(key) for key in ("use_rslora", "use_dora")}
    if not model.get("use_peft") and (unused := [key for key, value in lora_keys.items() if value]):
        raise UserError(f"`{unused[0]}` has no effect without LoRA, and `use_peft` is off", "set `use_peft: true`")
    if lora.init_lora_weights not in (None, *INITS):
        raise UserError(
            f"`init_lora_weights` cannot be {lora.init_lora_weights!r}: PEFT's other initialisations (PiSSA, OLoRA "
            "and so on) change the base model, so the adapter would not fit the original one",
            f"leave it out, or give {' or '.join(INITS)}",
        )
    if lora.loraplus_lr_ratio is not None and not 1 <= lora.loraplus_lr_ratio < float("inf"):
        raise UserError(
            f"`loraplus_lr_ratio` cannot be {lora.loraplus_lr_ratio}",
            "give a number from 1 up; LoRA+'s authors use 16",
        )

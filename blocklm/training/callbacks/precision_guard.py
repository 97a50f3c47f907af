"""Refuses to train in any precision but the chosen one."""

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.models.precision import Precision


class PrecisionCallback(TrainerCallback):
    """Asserts the precision when training begins, because TRL, accelerate and PEFT may each change it; logs no metrics.

    Both flags are as chosen, every trained weight is in fp32 (fp16's GradScaler cannot unscale other dtypes, and bf16
    loses small steps), and quantised layers multiply in the chosen dtype.
    """

    def __init__(self, precision: Precision) -> None:
        self._precision = precision

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the arguments and every weight once."""
        chosen = self._precision
        assert (args.fp16, args.bf16) == (chosen.fp16, chosen.bf16), f"{args.fp16=}, {args.bf16=}, chosen {chosen}"
        assert model is not None
        for name, parameter in model.named_parameters():
            as_chosen = not parameter.requires_grad or parameter.dtype == torch.float32
            assert as_chosen, f"`{name}` would be trained in {parameter.dtype}"
        for name, module in model.named_modules():
            if isinstance(module, Linear4bit):
                assert module.compute_dtype == chosen.dtype, f"`{name}` multiplies in {module.compute_dtype}"

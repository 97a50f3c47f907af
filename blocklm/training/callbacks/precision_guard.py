"""Refuses to train in any precision but the chosen one."""

from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class PrecisionCallback(TrainerCallback):
    """Asserts the precision when training begins, because TRL, accelerate and PEFT may each change it; logs no metrics.

    Both flags suit the dtype, every trained weight is in fp32 (fp16's GradScaler cannot unscale other dtypes, and bf16
    loses small steps), and quantised layers multiply in the dtype.

    Args:
        dtype: the chosen dtype of the matrix products.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: torch.nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the arguments and every weight once."""
        flags = (self._dtype == torch.float16, self._dtype == torch.bfloat16)
        assert (args.fp16, args.bf16) == flags, f"{args.fp16=}, {args.bf16=}, chosen {self._dtype}"
        assert model is not None
        for name, parameter in model.named_parameters():
            as_chosen = not parameter.requires_grad or parameter.dtype == torch.float32
            assert as_chosen, f"`{name}` would be trained in {parameter.dtype}"
        for name, module in model.named_modules():
            if isinstance(module, Linear4bit):
                assert module.compute_dtype == self._dtype, f"`{name}` multiplies in {module.compute_dtype}"

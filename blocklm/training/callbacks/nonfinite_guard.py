"""Ends a run whose loss, gradients or weights are not finite, before they are saved."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.errors import UserError

# By then fp16's scaler has halved its scale from 2^16 to 2^-16, and still no gradient is small enough.
SKIPPED_IN_A_ROW = 32


class NonFiniteCallback(TrainerCallback):
    """Ends the run when the loss, the evaluation's loss or the norm of the gradients is not finite; logs no metrics.

    It checks the logged numbers, which are on the host and the same on all processes. It makes the trainer log before
    every checkpoint and at the end: a loss that was not finite since the last checkpoint is still in the logged mean.
    `logging_nan_inf_filter` must be off. Under fp16 the scaler skips steps whose gradients overflow, so only many such
    steps in a row end the run.

    Raises:
        UserError: on every process, at the same step.
    """

    def __init__(self) -> None:
        self._skipped = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Count skipped steps, and log before each save."""
        if args.fp16:
            self._skipped = self._skipped + 1 if kwargs["optimizer"].step_was_skipped else 0
            if self._skipped == SKIPPED_IN_A_ROW:
                raise _diverged(f"the gradients overflowed fp16 in the last {self._skipped} steps", args, state)
        if control.should_save or control.should_evaluate or control.should_training_stop:
            control.should_log = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Log before each save."""
        control.should_log |= control.should_save or control.should_evaluate
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the logged numbers."""
        checked = ("loss", "eval_loss") if args.fp16 else ("loss", "eval_loss", "grad_norm")
        for name in checked:
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise _diverged(f"`{name}` is {value}", args, state)


def check_weights(weights: Iterable[torch.Tensor], args: TrainingArguments, state: TrainerState) -> None:
    """Check before a save that all trained weights are finite; each weight is read once.

    Raises:
        UserError: a weight is not finite; raised on every process, whichever holds the weight.
    """
    parts = [weight.to_local() if isinstance(weight, DTensor) else weight.detach() for weight in weights]
    broken = torch.stack([~part.isfinite().all() for part in parts]).any().float()
    if PartialState().num_processes > 1:
        broken = reduce(broken, "sum")
    if broken:
        raise _diverged("a trained weight is not finite", args, state)


def _diverged(what: str, args: TrainingArguments, state: TrainerState) -> UserError:
    remedy = f"lower `learning_rate` (it is {args.learning_rate:g})"
    if args.fp16:
        # On Turing bitsandbytes has a fused 4-bit kernel for fp16 alone.
        remedy += (
            ", then raise `warmup_steps`; if neither helps, `fp16: false`, which is slower and needs more memory,"
        )
    return UserError(
        f"training diverged: {what} at step {state.global_step}; nothing of this was saved",
        f"{remedy} and start again in another `output_dir`; the checkpoints in this one are from before",
    )

"""Ends a run whose loss has left the ground it had gained and does not come back."""

import logging
from statistics import median
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.errors import UserError
from blocklm.interrupts import Interrupts

logger = logging.getLogger(__name__)

KNOWN = 16  # logged losses that say what is usual
FACTOR, NATS = 1.5, 1.0  # a spike is that many times and that much above their median
IN_A_ROW = 4

REMEDY = (
    "lower `learning_rate`, raise `warmup_steps` or lower `max_grad_norm`, and start again in another `output_dir`"
)


class SpikeCallback(TrainerCallback):
    """Warns of a loss far above the median of those before it, and stops the run after four in a row; logs no metrics.

    A stop saves a checkpoint first; what is usual is read from the trainer's history, which a resume brings back.

    Args:
        interrupts: takes the wish to stop, which all processes share.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Compare the newest losses with those before them."""
        if "loss" not in (logs or {}):
            return
        losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
        spikes = high_at_the_end(losses)
        if spikes == IN_A_ROW and state.global_step < state.max_steps:  # at the end there is nothing to stop
            why = f"the loss has been far above its median for {spikes} logs, {losses[-1]:.2f} at step {state.global_step}"
            self._interrupts.request(UserError(f"{why}; a checkpoint is saved", REMEDY))
        elif spikes == 1:
            logger.warning("the loss jumped to %.2f at step %d; it may come back", losses[-1], state.global_step)


def high_at_the_end(losses: list[float]) -> int:
    """How many of the last losses in a row are spikes against the usual ones before the first of them."""
    for count in range(min(IN_A_ROW, len(losses) - KNOWN), 0, -1):
        usual = median(losses[-count - KNOWN : -count])
        if all(loss > FACTOR * usual and loss > usual + NATS for loss in losses[-count:]):
            return count
    return 0

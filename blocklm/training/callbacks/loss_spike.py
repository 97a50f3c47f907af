"""Stops a run whose loss has jumped and does not come back."""

import logging
from statistics import median
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.errors import UserError
from blocklm.interrupts import Interrupts

logger = logging.getLogger(__name__)

USUAL_LOSSES = 16  # logged losses whose median is the usual loss
FACTOR, NATS = 1.5, 1.0  # a spike is more than this many times the median, and more than this many nats above it
IN_A_ROW = 4

REMEDY = (
    "lower `learning_rate`, raise `warmup_steps` or lower `max_grad_norm`, and start again in another `output_dir`"
)


class SpikeCallback(TrainerCallback):
    """Warns of a loss far above the median of those before it, and stops the run after four in a row; logs no metrics.

    A stop saves a checkpoint first. The median comes from the trainer's history, which a resume restores.

    Args:
        interrupts: receives requests to stop, which all processes share.
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
        spikes = count_spikes(losses)
        if spikes == IN_A_ROW and state.global_step < state.max_steps:  # after the last step there is nothing to stop
            why = f"the loss has been far above its median for {spikes} logs, {losses[-1]:.2f} at step {state.global_step}"
            self._interrupts.request(UserError(f"{why}; a checkpoint is saved", REMEDY))
        elif spikes == 1:
            logger.warning("the loss jumped to %.2f at step %d; it may come back", losses[-1], state.global_step)


def count_spikes(losses: list[float]) -> int:
    """Count the last losses in a row that are spikes against the usual losses before them."""
    for count in range(min(IN_A_ROW, len(losses) - USUAL_LOSSES), 0, -1):
        usual = median(losses[-count - USUAL_LOSSES : -count])
        if all(loss > FACTOR * usual and loss > usual + NATS for loss in losses[-count:]):
            return count
    return 0

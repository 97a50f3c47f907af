"""Estimates how long the training will take, after timing a few steps."""

import logging
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

FIRST, LAST = 2, 6  # steps between which time is taken; the first ones warm up kernels and caches


class EstimateCallback(TrainerCallback):
    """Logs one line after six steps: the time left and the hour at which it ends; logs no metrics.

    Evaluations and checkpoints come on top. A run of at most 24 steps logs nothing.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._started = 0.0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Time the steps, and log the estimate after the last of them."""
        self._steps += 1
        if self._steps == FIRST:
            self._started = time.monotonic()
        if self._steps == LAST and state.is_world_process_zero and state.max_steps > 4 * LAST:
            each = (time.monotonic() - self._started) / (LAST - FIRST)
            left = each * (state.max_steps - state.global_step)
            end = time.strftime("%H:%M on %d %B", time.localtime(time.time() + left))
            logger.info(
                "%.1f s a step: about %s for the %d steps left, until %s, plus evaluations",
                each,
                duration(left),
                state.max_steps - state.global_step,
                end,
            )


def duration(seconds: float) -> str:
    """Format seconds as hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{max(1, minutes)} min"

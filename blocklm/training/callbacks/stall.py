"""Warns when a step does not end, and shows where it hangs."""

import faulthandler
import logging
import sys
import threading
import time
from statistics import median
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

MIN_SECONDS = 600.0
STALL_FACTOR = 20.0  # times the median step
TIMED_STEPS = 32  # newest steps whose median counts
CHECK_SECONDS = 5.0


class StallCallback(TrainerCallback):
    """Warns once when a step takes twenty times the median and at least ten minutes, with the stack of each thread.

    A hanging kernel or process cannot be stopped from inside without losing the step; the warning says what to do. The
    time of evaluations and checkpoints does not count. Logs no metrics.

    Args:
        min_seconds: minimum seconds before a step counts as stalled.
    """

    def __init__(self, min_seconds: float = MIN_SECONDS) -> None:
        self._min_seconds = min_seconds
        self._seconds: list[float] = []
        self._started: float | None = None
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the thread, unless it runs already: training begins again after memory ran out."""
        self._started = None
        if self._thread is not None and self._thread.is_alive():
            return
        self._end.clear()
        self._thread = threading.Thread(target=self._watch, name="blocklm-stall", daemon=True)
        self._thread.start()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record the time of the step."""
        if self._started is not None:
            self._seconds = [*self._seconds[1 - TIMED_STEPS :], time.monotonic() - self._started]
        self._started = None

    def stop(self) -> None:
        """End the thread; called from outside, because a failing training does not call its callbacks."""
        self._end.set()

    def _watch(self) -> None:
        reported: float | None = None
        while not self._end.wait(min(CHECK_SECONDS, self._min_seconds)):
            started = self._started
            if started is None or started == reported:
                continue
            limit = (
                max(self._min_seconds, STALL_FACTOR * median(self._seconds))
                if self._seconds
                else STALL_FACTOR * self._min_seconds
            )
            if time.monotonic() - started > limit:
                reported = started
                logger.warning(
                    "a step has not ended after %.0f s: if it does not end soon, stop the run (Ctrl-C twice) and start it "
                    "again: it resumes from the last checkpoint; with several processes, check which one is missing",
                    time.monotonic() - started,
                )
                faulthandler.dump_traceback(sys.stderr)

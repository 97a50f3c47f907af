"""Says when a step does not end, and where it hangs."""

import faulthandler
import logging
import sys
import threading
import time
from statistics import median
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

logger = logging.getLogger(__name__)

LEAST_SECONDS = 600.0
TIMES = 20.0  # the median step
KNOWN = 32
LOOK_SECONDS = 5.0


class StallCallback(TrainerCallback):
    """Warns once when a step takes twenty times the median and at least ten minutes, with the stack of each thread.

    A hanging kernel or process cannot be stopped from inside without losing the step; the warning says what to do. Time in
    evaluations and checkpoints does not count. Logs no metrics.

    Args:
        least: seconds that no step may be called stalled in.
    """

    def __init__(self, least: float = LEAST_SECONDS) -> None:
        self._least = least
        self._seconds: list[float] = []
        self._began: float | None = None
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to look; after a shortage of memory the training begins once more."""
        self._began = None
        if self._thread is not None and self._thread.is_alive():
            return
        self._over.clear()
        self._thread = threading.Thread(target=self._look, name="blocklm-stall", daemon=True)
        self._thread.start()

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to count."""
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Learn what is usual."""
        if self._began is not None:
            self._seconds = [*self._seconds[1 - KNOWN :], time.monotonic() - self._began]
        self._began = None

    def stop(self) -> None:
        """End the thread; a training that fails says nothing to its callbacks."""
        self._over.set()

    def _look(self) -> None:
        told: float | None = None
        while not self._over.wait(min(LOOK_SECONDS, self._least)):
            began = self._began
            if began is None or began == told:
                continue
            limit = max(self._least, TIMES * median(self._seconds)) if self._seconds else TIMES * self._least
            if time.monotonic() - began > limit:
                told = began
                logger.warning(
                    "a step has not ended after %.0f s: if it does not go on, stop the run (Ctrl-C twice) and start it again: "
                    "it resumes from the last checkpoint; with several processes, look which of them is missing",
                    time.monotonic() - began,
                )
                faulthandler.dump_traceback(sys.stderr)

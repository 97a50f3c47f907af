"""Returns freed memory to the operating system from time to time, on a CPU."""

import ctypes
import platform
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class FreedMemoryCallback(TrainerCallback):
    """Returns freed memory after each log and each evaluation, if the C library is glibc; logs no metrics.

    Steps differ in length, so freed blocks of one step seldom fit the next, and glibc keeps them all: without this the
    quickstart's memory grew from 3.7 GiB to 5.9 GiB over its steps. After every step it would cost time, because the
    next step must get the memory again.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Return the memory of the steps since the last log."""
        self._return_memory(args)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Return the memory of an evaluation."""
        self._return_memory(args)

    def _return_memory(self, args: TrainingArguments) -> None:
        if self._libc is not None and args.device.type == "cpu":
            self._libc.malloc_trim(0)

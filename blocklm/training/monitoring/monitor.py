"""Puts together the callbacks that observe a training without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transformers
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.integrations import TensorBoardCallback
from trl import SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.interrupts import Interrupts
from blocklm.runs.manifest import Manifest
from blocklm.training.callbacks.hardware import HardwareCallback
from blocklm.training.callbacks.progress import ProgressCallback
from blocklm.training.callbacks.stall import StallCallback
from blocklm.training.callbacks.tensorboard import BoardCallback
from blocklm.training.callbacks.training_metrics import MetricsCallback, tokens_per_byte


class TrainingMonitor:
    """Holds the observing callbacks and collects their series for the trainer's log.

    Args:
        recipe: the run's recipe.
        interrupts: receives requests to stop.
        validation: evaluated rows with `labels`.
        tokenizer: the model's tokenizer.
    """

    def __init__(
        self, recipe: Recipe, interrupts: Interrupts, validation: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._recipe = recipe
        self.metrics = MetricsCallback(tokens_per_byte(validation["labels"], tokenizer))
        self.hardware = HardwareCallback(recipe.watch, interrupts, recipe.output_dir)
        self.progress = ProgressCallback(self.hardware)
        self.stall = StallCallback()
        # HardwareCallback must come before InterruptCallback, which acts on its request to stop.
        self.callbacks = [self.metrics, self.hardware, self.progress, self.stall]

    def series(self, trainer: SFTTrainer, logs: dict[str, float]) -> dict[str, float]:
        """Return the series to log beside `logs`, to the history and to every tracker."""
        series = self.metrics.series(trainer.args, trainer.state, logs)
        return series | (self.hardware.series() if "loss" in logs else {})

    def take_over(self, trainer: SFTTrainer) -> None:
        """Replace transformers' progress bar, printed logs and TensorBoard callback by our own."""
        trainer.remove_callback(transformers.ProgressCallback)
        trainer.remove_callback(transformers.PrinterCallback)
        if trainer.pop_callback(TensorBoardCallback) is not None:
            trainer.add_callback(BoardCallback(self._recipe.resolved()))

    def close(self) -> None:
        """End the threads and the progress line."""
        self.hardware.stop()
        self.stall.stop()
        self.progress.close()


@contextmanager
def monitoring(trainer: SFTTrainer, manifest: Manifest) -> Iterator[None]:
    """Close the monitor however a training ends, and record the use of the hardware in the manifest."""
    monitor: TrainingMonitor = trainer.monitor
    try:
        yield
    finally:
        monitor.close()
        usage: dict[str, Any] | None = monitor.hardware.usage()
        manifest.update(hardware={"usage": usage})

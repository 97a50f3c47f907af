"""Everything that looks at a training without changing it, put together in one place."""

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
    """The callbacks that watch, and what the trainer asks of them.

    Args:
        recipe: the run.
        interrupts: takes the wish to stop.
        validation: rows whose `labels` are evaluated.
        tokenizer: of the model.
    """

    def __init__(
        self, recipe: Recipe, interrupts: Interrupts, validation: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        self._recipe = recipe
        self.metrics = MetricsCallback(tokens_per_byte(validation["labels"], tokenizer))
        self.hardware = HardwareCallback(recipe.watch, interrupts, recipe.output_dir)
        self.progress = ProgressCallback(self.hardware)
        self.stall = StallCallback()
        # The hardware's wish to stop must be there when the interrupts' callback looks for one.
        self.callbacks = [self.metrics, self.hardware, self.progress, self.stall]

    def series(self, trainer: SFTTrainer, logs: dict[str, float]) -> dict[str, float]:
        """What is logged beside `logs`: to the history, and from there to every tracker."""
        found = self.metrics.series(trainer.args, trainer.state, logs)
        return found | (self.hardware.series() if "loss" in logs else {})

    def take_over(self, trainer: SFTTrainer) -> None:
        """Put ours in the place of the library's progress bar, printed dictionaries and TensorBoard."""
        trainer.remove_callback(transformers.ProgressCallback)
        trainer.remove_callback(transformers.PrinterCallback)
        if trainer.pop_callback(TensorBoardCallback) is not None:
            trainer.add_callback(BoardCallback(self._recipe.resolved()))

    def close(self) -> None:
        """End the threads and the line."""
        self.hardware.stop()
        self.stall.stop()
        self.progress.close()


@contextmanager
def monitoring(trainer: SFTTrainer, manifest: Manifest) -> Iterator[None]:
    """Close what watches a training however it ends, and put what the hardware did into the manifest."""
    monitor: TrainingMonitor = trainer.monitor
    try:
        yield
    finally:
        monitor.close()
        usage: dict[str, Any] | None = monitor.hardware.usage()
        manifest.update(hardware={"usage": usage})

"""TRL's SFTTrainer with a fixed order of rows, checked saves and exact resumes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset
from torch.utils.data import Sampler
from transformers import EarlyStoppingCallback
from transformers.utils.generic import is_flash_attention_requested
from trl import SFTTrainer

from blocklm.errors import UserError
from blocklm.runs.checkpoints import delete_old_checkpoints, record_files
from blocklm.training.callbacks.forgetting import has_forgotten
from blocklm.training.callbacks.nonfinite_guard import check_weights
from blocklm.training.data_order import TrainingOrder
from blocklm.training.fused_head import labelled_positions_only
from blocklm.training.lora_variants import loraplus
from blocklm.training.monitoring.monitor import TrainingMonitor
from blocklm.training.packing import RowsApart


class InOrder(Sampler[int]):
    """Yields the rows of one epoch after the other in a fixed order.

    Args:
        reading: the order.
        epoch: function that returns the trainer's current epoch. `set_epoch` does not reach this sampler through
            accelerate's wrapper when several processes resume.
    """

    def __init__(self, reading: TrainingOrder, epoch: Callable[[], float]) -> None:
        self._order, self._size, self._epoch = reading.order, reading.epoch_size, epoch

    def __iter__(self) -> Iterator[int]:
        start = int(self._epoch() + 1e-6) * self._size
        return (self._order[place % len(self._order)] for place in range(start, start + self._size))

    def __len__(self) -> int:
        return self._size


class OrderedTrainer(SFTTrainer):
    """Reads its rows in a fixed order and saves only finite weights.

    Optimises with LoRA+ if a ratio of learning rates is given. The monitor sees each batch and adds to each log.
    """

    optimizer: Any
    data_collator: Any

    def __init__(
        self, reading: TrainingOrder, loraplus_lr_ratio: float | None, monitor: TrainingMonitor, **arguments: Any
    ) -> None:
        self._reading, self._loraplus_lr_ratio, self.monitor = reading, loraplus_lr_ratio, monitor
        try:
            super().__init__(**arguments)
        except (ValueError, TypeError, KeyError, OSError, ImportError) as error:
            message = " ".join(str(error).split())[:300]
            raise UserError(
                f"TRL cannot train with these keys: {message}", "correct these keys in the recipe"
            ) from error
        if self.args.packing and not is_flash_attention_requested(self.model.config):
            self.data_collator = RowsApart(self.data_collator.pad_token_id)

    def compute_loss(self, model: Any, inputs: dict[str, Any], **arguments: Any) -> Any:
        """Compute the loss of a batch and count the batch."""
        if self.model.training and "position_ids" in inputs:
            rows, length = inputs["position_ids"].shape  # TRL's `num_tokens` counts only one of these rows
            self._total_train_tokens += (rows - 1) * length * self.accelerator.num_processes
        with labelled_positions_only():
            result = super().compute_loss(model, inputs, **arguments)
        loss = result[0] if isinstance(result, tuple) else result
        self.monitor.metrics.count_batch(inputs, loss, self.model.training)
        return result

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log to the history and to every tracker, with the monitor's own series."""
        logs.update(self.monitor.series(self, logs))
        super().log(logs, start_time)

    def create_optimizer(self, model: Any = None) -> Any:
        """Create the recipe's optimizer, unless there is one already."""
        if self._loraplus_lr_ratio is not None and self.optimizer is None:
            self.optimizer = loraplus(self, self.model if model is None else model, self._loraplus_lr_ratio)
        return super().create_optimizer(model)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> InOrder:
        return InOrder(self._reading, lambda: self.state.epoch or 0.0)

    def _run_epoch(self, **arguments: Any) -> None:
        """Run an epoch, unless the training had already ended at the checkpoint that was resumed.

        Transformers 5.23 would train on, for a step or until the next evaluation.
        """
        patience = [entry for entry in self.callback_handler.callbacks if isinstance(entry, EarlyStoppingCallback)]
        stopped = any(entry.early_stopping_patience_counter >= entry.early_stopping_patience for entry in patience)
        stopped = stopped or has_forgotten(self.state)
        if not stopped and self.state.global_step < self.state.max_steps:
            super()._run_epoch(**arguments)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Compare an evaluation with the best; a model that has forgotten general text is none."""
        return not has_forgotten(self.state) and bool(super()._determine_best_metric(metrics, trial))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint or the result.

        Raises:
            UserError: a trained weight is not finite.
        """
        check_weights((weight for weight in self.model.parameters() if weight.requires_grad), self.args, self.state)
        super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint, then delete only the checkpoints beyond `save_total_limit`."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            kept = {self.state.global_step, self.state.best_global_step or 0}
            delete_old_checkpoints(Path(self.args.output_dir), limit, kept)

    def _save_rng_state(self, output_dir: str) -> None:
        """Write this process's random state; the main process lists the files once all processes have written."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            record_files(Path(output_dir))

"""TRL's SFTTrainer, made to read in a given order, to save only what is sound and to resume where it was."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import EarlyStoppingCallback
from transformers.utils.generic import is_flash_attention_requested
from trl import SFTTrainer

from blocklm.errors import UserError
from blocklm.runs.checkpoints import delete_old_checkpoints, record_files
from blocklm.training.callbacks.nonfinite_guard import check_weights
from blocklm.training.data_order import InOrder, TrainingOrder
from blocklm.training.lora_variants import loraplus
from blocklm.training.monitoring.monitor import TrainingMonitor
from blocklm.training.packing import RowsApart


class OrderedTrainer(SFTTrainer):
    """Reads its rows in the order of a reading list and saves only what can be gone on from.

    LoRA+ where a ratio of learning rates is given. What watches sees each batch and adds to each log.
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
            said = " ".join(str(error).split())[:300]
            raise UserError(
                f"TRL cannot train as these keys say: {said}", "correct these keys in the recipe"
            ) from error
        if self.args.packing and not is_flash_attention_requested(self.model.config):
            self.data_collator = RowsApart(self.data_collator.pad_token_id)

    def compute_loss(self, model: Any, inputs: dict[str, Any], **arguments: Any) -> Any:
        """The loss of a batch, which is counted."""
        if self.model.training and "position_ids" in inputs:
            rows, length = inputs["position_ids"].shape  # of which TRL's `num_tokens` counts one
            self._total_train_tokens += (rows - 1) * length * self.accelerator.num_processes
        found = super().compute_loss(model, inputs, **arguments)
        loss = found[0] if isinstance(found, tuple) else found
        self.monitor.metrics.count_batch(inputs, loss, self.model.training)
        return found

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log to the history and every tracker, with what is watched."""
        logs.update(self.monitor.series(self, logs))
        super().log(logs, start_time)

    def create_optimizer(self, model: Any = None) -> Any:
        """The recipe's optimizer, unless there is one already."""
        if self._loraplus_lr_ratio is not None and self.optimizer is None:
            self.optimizer = loraplus(self, self.model if model is None else model, self._loraplus_lr_ratio)
        return super().create_optimizer(model)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> InOrder:
        return InOrder(self._reading, lambda: self.state.epoch or 0.0)

    def _run_epoch(self, **arguments: Any) -> None:
        """Not after a resume from the last checkpoint: transformers 5.23 would train on, a step or to the next evaluation."""
        patience = [entry for entry in self.callback_handler.callbacks if isinstance(entry, EarlyStoppingCallback)]
        lost = any(entry.early_stopping_patience_counter >= entry.early_stopping_patience for entry in patience)
        if not lost and self.state.global_step < self.state.max_steps:
            super()._run_epoch(**arguments)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint or the result; raises `UserError` if a trained weight is not finite."""
        check_weights((weight for weight in self.model.parameters() if weight.requires_grad), self.args, self.state)
        super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save one, and then delete those beyond `save_total_limit`, and nothing else."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            kept = {self.state.global_step, self.state.best_global_step or 0}
            delete_old_checkpoints(Path(self.args.output_dir), limit, kept)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every process writes its own; the main one may list the files and write `trainer_state.json` when all have."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            record_files(Path(output_dir))

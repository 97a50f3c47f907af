"""Keeps the best weights so far in the run directory, even if the run ends early."""

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# Written in this order: the weights come after the files that describe them.
WEIGHTS_LAST = ("adapter_config.json", "config.json", "*.safetensors.index.json", "*.safetensors")


class BestCallback(TrainerCallback):
    """Saves a checkpoint at each evaluation that is the best so far, and copies its weights to `best/`.

    The trainer itself can only return to an evaluation at which it saved. The checkpoint of the best step is never
    deleted for `save_total_limit`. In `best/` each file is replaced in one step: a kill leaves the weights of the best
    step or of the best step before it, and the next start completes the copy. Logs no metrics.
    """

    def __init__(self) -> None:
        self._kept: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the best checkpoint after a resume; the state has its old path, and a run may have been moved."""
        if state.best_global_step:
            checkpoint = _checkpoint(args, state)
            state.best_model_checkpoint = str(checkpoint) if checkpoint.is_dir() else None
            self._keep(args, state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **kwargs: Any,
    ) -> TrainerControl:
        """Ask for a checkpoint if this evaluation is the best; `state` holds the best before it."""
        value = metrics[f"eval_{str(args.metric_for_best_model).removeprefix('eval_')}"]
        best = state.best_metric
        if best is None or (value > best if args.greater_is_better else value < best):
            control.should_save = True
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Copy the weights of a new best checkpoint."""
        self._keep(args, state)

    def _keep(self, args: TrainingArguments, state: TrainerState) -> None:
        if not state.is_world_process_zero or not state.best_model_checkpoint or self._kept == state.best_global_step:
            return
        best = Path(args.output_dir) / "best"
        best.mkdir(exist_ok=True)
        for pattern in WEIGHTS_LAST:
            for path in sorted(_checkpoint(args, state).glob(pattern)):
                partial = best / f".{path.name}"
                shutil.copyfile(path, partial)
                partial.replace(best / path.name)
        self._kept = state.best_global_step


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.best_global_step}"

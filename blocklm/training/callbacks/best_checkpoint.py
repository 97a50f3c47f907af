"""Keeps the best weights so far in the run directory, whatever becomes of the run."""

import shutil
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

# Written in this order: the weights come when all that describes them is there.
WEIGHTS_LAST = ("adapter_config.json", "config.json", "*.safetensors.index.json", "*.safetensors")


class BestCallback(TrainerCallback):
    """Saves whenever an evaluation is the best so far, and keeps those weights under `best/`; logs no metrics.

    The trainer itself can only return to an evaluation at which it saved. Its checkpoint of the best step is never deleted for
    `save_total_limit`. In `best/` each file is replaced in one step: a kill leaves the weights of the best step or those of
    the one before, and the next start makes good.
    """

    def __init__(self) -> None:
        self._kept: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the best checkpoint where the run directory is now: the state names it by the path that it had."""
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
        """Save what is better; `state` holds the best before this evaluation."""
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

"""Writes TensorBoard as transformers does, with our own groups of series and the recipe's keys."""

from typing import Any

from torch.utils.tensorboard.summary import hparams
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

Keys = dict[str, bool | str | float | int]
COMPARED = ("eval/loss", "eval/bits_per_byte", "train/loss", "train/tokens_per_second")


class BoardCallback(TensorBoardCallback):
    """Writes the log to TensorBoard; logs no metrics of its own.

    Transformers puts every name into `train/` that has none of its own prefixes. A name with a group, such as
    `hardware/gpu_temp_c`, keeps it here; other trackers show it as `train/hardware/gpu_temp_c`. The recipe's keys are
    in the tab HPARAMS, beside the results to compare.

    Args:
        recipe: the recipe's resolved keys.
    """

    def __init__(self, recipe: dict[str, Any]) -> None:
        super().__init__()
        self._keys = hyperparameters(recipe)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the run and write the recipe's keys."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.tb_writer is not None:
            # `add_hparams` would write them as a run of their own.
            for summary in hparams(self._keys, dict.fromkeys(COMPARED, 0.0)):  # type: ignore[no-untyped-call]
                self.tb_writer.file_writer.add_summary(summary)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write names with a group unchanged, and other names as transformers does."""
        grouped = {name: value for name, value in (logs or {}).items() if "/" in name}
        ungrouped = {name: value for name, value in (logs or {}).items() if name not in grouped}
        super().on_log(args, state, control, logs=ungrouped, **kwargs)
        if state.is_world_process_zero and self.tb_writer is not None:
            for name, value in grouped.items():
                self.tb_writer.add_scalar(name, value, state.global_step)


def hyperparameters(recipe: dict[str, Any]) -> Keys:
    """Convert a recipe's keys to TensorBoard's types: numbers, flags and texts; null keys are left out."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in recipe.items()
        if value is not None
    }

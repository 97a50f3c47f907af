"""TensorBoard as transformers fills it, with groups of our own and the recipe's keys, all in one run."""

from typing import Any

from torch.utils.tensorboard.summary import hparams
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

Keys = dict[str, bool | str | float | int]
COMPARED = ("eval/loss", "eval/bits_per_byte", "train/loss", "train/tokens_per_second")


class BoardCallback(TensorBoardCallback):
    """Writes the log to TensorBoard; logs no metrics of its own.

    Transformers puts every name before which it does not know into `train/`; one with a group of its own, such as
    `hardware/gpu_temp_c`, keeps it here. Other trackers show it as `train/hardware/gpu_temp_c`. The recipe's keys stand in
    the tab HPARAMS beside the results that one compares.

    Args:
        recipe: resolved keys.
    """

    def __init__(self, recipe: dict[str, Any]) -> None:
        super().__init__()
        self._keys = hyperparameters(recipe)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the run and note its keys."""
        super().on_train_begin(args, state, control, **kwargs)
        if self.tb_writer is not None:
            # `add_hparams` would make a run of its own of them.
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
        """Write the names with a group as they are, the others as transformers does."""
        grouped = {name: value for name, value in (logs or {}).items() if "/" in name}
        rest = {name: value for name, value in (logs or {}).items() if name not in grouped}
        super().on_log(args, state, control, logs=rest, **kwargs)
        if state.is_world_process_zero and self.tb_writer is not None:
            for name, value in grouped.items():
                self.tb_writer.add_scalar(name, value, state.global_step)


def hyperparameters(recipe: dict[str, Any]) -> Keys:
    """The keys of a recipe as TensorBoard takes them: numbers, flags and texts; what is not set is left out."""
    return {
        key: value if isinstance(value, bool | int | float | str) else str(value)
        for key, value in recipe.items()
        if value is not None
    }

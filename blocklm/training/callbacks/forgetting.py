"""Ends a training that forgets: general text is measured at each evaluation beside the repository's own."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from blocklm.evaluation.exam.forgetting import LIMIT_PERCENT
from blocklm.evaluation.exam.items import ExamItem
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel

logger = logging.getLogger(__name__)

BITS, RISE = "general_bits_per_byte", "eval_general_rise_percent"


def has_forgotten(state: TrainerState) -> bool:
    """Whether the last evaluation found that general text costs over 3 % more bits than before the training."""
    rises = [entry[RISE] for entry in state.log_history if RISE in entry]
    return bool(rises) and rises[-1] > LIMIT_PERCENT


class ForgettingCallback(TrainerCallback):
    """Measures the exam's general texts before the first step and at each evaluation, and stops above the limit.

    Logs to the history and to every tracker: `general_bits_per_byte` before the first step, and
    `eval_general_rise_percent` at each evaluation. A resumed training reads the first from its history.

    Args:
        log: the trainer's `log`.
        texts: the general texts, none longer than a row of the training.
        tokenizer: the model's tokenizer.
        dtype: dtype of the matrix products.
        restart_clock: called after each measurement, so that its time is not counted as training.
    """

    def __init__(
        self,
        log: Callable[[dict[str, float]], None],
        texts: Sequence[ExamItem],
        tokenizer: PreTrainedTokenizerBase,
        dtype: torch.dtype,
        restart_clock: Callable[[], None],
    ) -> None:
        self._log, self._tokenizer, self._dtype, self._restart_clock = log, tokenizer, dtype, restart_clock
        self._texts = texts

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Measure the model before the first step."""
        if not state.global_step:
            self._log({BITS: self._bits_per_byte(model)})

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> TrainerControl:
        """Measure again, and stop the training if the model has forgotten too much."""
        before = next((entry[BITS] for entry in state.log_history if BITS in entry), None)
        if before is not None:
            self._log({RISE: 100 * (self._bits_per_byte(model) / before - 1)})
            if has_forgotten(state):
                logger.warning(
                    "general text costs over %g %% more bits than before the training: it stops here", LIMIT_PERCENT
                )
                control.should_training_stop = True
        return control

    def _bits_per_byte(self, model: PreTrainedModel) -> float:
        """Measure text by text, as a batch could need more memory than a training step."""
        loaded = LoadedModel(model, self._tokenizer, self._dtype)
        with loaded.evaluation_mode():
            bits = bits_of_rows(loaded, [text.encoded for text in self._texts], None, batch_tokens=1)
        self._restart_clock()
        return sum(bits) / sum(text.added_bytes for text in self._texts)

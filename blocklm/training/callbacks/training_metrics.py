"""Adds series to the log that transformers and TRL do not log."""

import math
import resource
import time
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.formatting import MIB
from blocklm.models.tokenization.encode import IGNORED
from blocklm.training.packing import padding_mask


class MetricsCallback(TrainerCallback):
    """Counts the batches of the trainer, and derives series from the counts and from the trainer's log.

    The libraries log `loss`, `grad_norm`, `learning_rate`, `epoch`, `num_input_tokens_seen`, `num_tokens`, `entropy`,
    `mean_token_accuracy` and `train_tokens_per_second` (since the start, pauses included). This callback adds to a
    training loss:

    - `perplexity`;
    - `tokens_per_second`: since the last log, without evaluations and saving;
    - `padding_percent`: share of padding in the tokens that this process read since the last log;
    - `memory_peak_mib`: so far, of PyTorch's allocator on a GPU, of the process on a CPU.

    To an evaluation's loss:

    - `eval_perplexity`;
    - `eval_bits_per_byte`: bits of all completion tokens, with the end token, over the bytes of the completions. The
      exam counts only added lines, so the two numbers differ;
    - `eval_overfitting_gap`: the evaluation's loss minus the mean training loss since the last evaluation.

    Bits and perplexity are left out if the loss is not a plain cross-entropy (`loss_type: dft`, label smoothing).

    Args:
        tokens_per_byte: completion tokens of the validation rows over their bytes; None if nothing is evaluated.
    """

    def __init__(self, tokens_per_byte: float | None) -> None:
        self._tokens_per_byte = tokens_per_byte
        self._seconds = 0.0
        self._clock = time.monotonic()
        self._tokens_before = 0
        self._tokens_read = 0
        self._padded: list[torch.Tensor] = []
        self._nats: list[torch.Tensor] = []
        self._scored: list[torch.Tensor] = []
        self._losses: list[float] = []

    def count_batch(self, inputs: dict[str, Any], loss: torch.Tensor, training: bool) -> None:
        """Count a batch; the device is not waited for until the next log."""
        if not training:
            scored = (inputs["labels"][..., 1:] != IGNORED).sum()
            self._scored.append(scored)
            self._nats.append(loss.detach() * scored)
            return
        self._tokens_read += inputs["input_ids"].numel()
        if "attention_mask" in inputs:  # rows without padding come without one
            self._padded.append((inputs["attention_mask"] == 0).sum())
        elif "position_ids" in inputs:
            self._padded.append(padding_mask(inputs["position_ids"]).sum())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start to count, also after a resume."""
        self._tokens_before = state.num_input_tokens_seen
        self._clock = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Time the step, and the loading of its batch."""
        now = time.monotonic()
        self._seconds += now - self._clock
        self._clock = now

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out the time of the evaluation."""
        self.restart_clock()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave out the time of saving."""
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave out the time since the last step, which was not spent on training."""
        self._clock = time.monotonic()

    def series(self, args: TrainingArguments, state: TrainerState, logs: dict[str, float]) -> dict[str, float]:
        """Return the series to log beside `logs`."""
        plain = getattr(args, "loss_type", "nll") in ("nll", "chunked_nll") and not args.label_smoothing_factor
        if "loss" in logs:
            self._losses.append(logs["loss"])
            return self._step_series(state) | ({"perplexity": _exp(logs["loss"])} if plain else {})
        if "eval_loss" in logs:
            return self._evaluation_series(logs["eval_loss"], plain)
        return {}

    def _step_series(self, state: TrainerState) -> dict[str, float]:
        tokens, tokens_read = state.num_input_tokens_seen - self._tokens_before, self._tokens_read
        series = {"memory_peak_mib": _memory_peak()}
        if self._seconds and tokens:
            series["tokens_per_second"] = tokens / self._seconds
        if tokens_read:
            series["padding_percent"] = 100 * _total(self._padded) / tokens_read
        self._tokens_before, self._seconds, self._tokens_read = state.num_input_tokens_seen, 0.0, 0
        self._padded.clear()
        return series

    def _evaluation_series(self, loss: float, plain: bool) -> dict[str, float]:
        series = {}
        if plain:
            series["eval_perplexity"] = _exp(loss)
        scored, nats = _total(self._scored), _total(self._nats)
        if plain and scored and self._tokens_per_byte:
            series["eval_bits_per_byte"] = nats / scored / math.log(2) * self._tokens_per_byte
        if self._losses:
            series["eval_overfitting_gap"] = loss - sum(self._losses) / len(self._losses)
        for kept in (self._scored, self._nats, self._losses):
            kept.clear()
        return series


def tokens_per_byte(labels: Iterable[list[int]], tokenizer: PreTrainedTokenizerBase) -> float | None:
    """Divide the number of labelled tokens by the UTF-8 bytes of their text; None if the text is empty.

    The first token of a row does not count, because no model predicts it. Special tokens have no bytes.
    """
    targets = [[token for token in row[1:] if token != IGNORED] for row in labels]
    texts = tokenizer.batch_decode(targets, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return sum(map(len, targets)) / size if size else None


def _total(parts: list[torch.Tensor]) -> float:
    return float(torch.stack(parts).double().sum()) if parts else 0.0


def _exp(loss: float) -> float:
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def _memory_peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

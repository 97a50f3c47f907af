"""A batch of prompts, and the reader of its answers, which stops each where no more of it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from blocklm.models.generation.decoding import Output, until
from blocklm.models.tokenization.token_healing import HealedPrompt, TokenHealing


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts that are continued together.

    Attributes:
        prompts: the prompts, without the ends with which their answers begin.
        lines: number of lines that are read of each answer; None for all.
        healing: what left out those ends.
    """

    prompts: Sequence[HealedPrompt]
    lines: Sequence[int | None]
    healing: TokenHealing


class BatchReader(StoppingCriteria):
    """Stops each answer once it has more than the lines that are read, or holds a stop.

    Args:
        tokenizer: tokenizer of the model.
        start: number of tokens of the padded prompts.
        batch: the prompts.
        stops: texts that end an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, start: int, batch: Batch, stops: Sequence[str]) -> None:
        self._tokenizer, self._start, self._batch, self._stops = tokenizer, start, batch, stops

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Tell for each answer whether it is complete."""
        beyond = [self._goes_beyond(number, row) for number, row in enumerate(input_ids.tolist())]
        return torch.tensor(beyond, device=input_ids.device)

    def output(self, number: int, row: list[int]) -> Output:
        """Read the answer to a prompt from a row of token ids, without EOS and without the lines that are not read."""
        read, ended = self._read(row)
        answer, ids, limit = self._text(number, read), tuple(read), self._batch.lines[number]
        text = until(answer, self._stops)
        ended = ended or len(text) < len(answer)
        if limit is None:
            return Output(text, ended, ids)
        lines = text.split("\n", limit)
        if len(lines) <= limit:
            return Output(text, ended, ids)
        return Output("".join(f"{line}\n" for line in lines[:limit]), ended and not lines[limit].strip(), ids)

    def _goes_beyond(self, number: int, row: list[int]) -> bool:
        limit = self._batch.lines[number]
        if limit is None and not self._stops:
            return False
        text = self._text(number, self._read(row)[0])
        if any(stop in text for stop in self._stops):
            return True
        lines = text.split("\n", -1 if limit is None else limit)
        return limit is not None and len(lines) > limit and bool(lines[limit].strip())

    def _read(self, row: list[int]) -> tuple[list[int], bool]:
        answer, end = row[self._start :], self._tokenizer.eos_token_id
        return (answer[: answer.index(end)], True) if end in answer else (answer, False)

    def _text(self, number: int, ids: list[int]) -> str:
        """Decode with special tokens, because the placeholders of redacted values are special tokens."""
        text = str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))
        return text[len(self._batch.prompts[number].text) :]

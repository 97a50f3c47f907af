"""Continues one prompt at a time with a base model and one of its adapters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from peft import PeftModel
from transformers import DynamicCache, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from blocklm.mining.redaction import PLACEHOLDERS
from blocklm.models.generation import generation_config
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import special_tokens
from blocklm.serving.answer_reader import AnswerReader, Reading
from blocklm.serving.prompt_cache import PromptCaches, can_be_cut
from blocklm.serving.question import Answer, Limits

CHUNK_TOKENS = 256  # of a prompt that are read at once; a client that goes away is noticed between two chunks


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Whoever waits for an answer.

    Attributes:
        cancelled: tells whether nobody waits any more.
        emit: takes the next part of the text as soon as it is certain; None if only the whole answer is wanted.
    """

    cancelled: Callable[[], bool]
    emit: Callable[[str], None] | None = None


class Engine:
    """A model that continues prompts, one at a time; used by one thread.

    Args:
        loaded: the model, in evaluation mode.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        model = loaded.model
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._decoder = base.get_decoder()
        self._prompts = PromptCaches() if can_be_cut(base.config) else None
        self._ends = end_tokens(loaded.tokenizer)

    @property
    def bytes(self) -> int:
        """Bytes of the weights, with those of all adapters."""
        return int(self._loaded.model.get_memory_footprint())

    def answer(self, ids: Sequence[int], limits: Limits, adapter: str, listener: Listener) -> Answer:
        """Continue a prompt.

        The keys and values of the beginning that it shares with an earlier prompt are used again. The tokens are those
        that the model writes without them, up to the rounding of sums.

        Args:
            ids: token ids of the prompt, at least one.
            limits: limits of the answer.
            adapter: name of the adapter.
            listener: whoever waits for the answer.

        Raises:
            Cancelled: the listener is gone.
        """
        started = perf_counter()
        if isinstance(self._loaded.model, PeftModel) and self._loaded.model.active_adapter != adapter:
            self._loaded.model.set_adapter(adapter, inference_mode=True)
        cache = None if self._prompts is None else self._prompts.take(adapter, ids)
        known = 0 if cache is None else cache.get_seq_length()
        reader = AnswerReader(
            self._loaded.tokenizer, self._ends, limits.decoding.stops, limits.indentation, limits.open_end
        )
        growing = _Growing(len(ids), reader, limits, listener)
        with torch.inference_mode(), self._loaded.autocast():
            read = cache is None or self._read(ids, cache, listener)
            written = self._write(ids, cache, limits, growing) if read else list(ids)
        if cache is not None and self._prompts is not None:
            self._prompts.keep(adapter, written, cache)
        if listener.cancelled():
            raise Cancelled
        first = growing.first or perf_counter()
        return Answer(
            text=growing.text,
            stopped_by=growing.reading.stopped_by or "limit",
            word=growing.reading.word,
            prompt_tokens=len(ids),
            read_tokens=len(ids) - known,
            tokens=len(written) - len(ids),
            prompt_ms=1000 * (first - started),
            answer_ms=1000 * (perf_counter() - first),
        )

    def _read(self, ids: Sequence[int], cache: DynamicCache, listener: Listener) -> bool:
        """Let the model read a prompt but for its last token, chunk by chunk; false if the listener is gone."""
        for start in range(cache.get_seq_length(), len(ids) - 1, CHUNK_TOKENS):
            if listener.cancelled():
                return False
            chunk = torch.tensor([ids[start : min(start + CHUNK_TOKENS, len(ids) - 1)]], device=self._loaded.device)
            self._decoder(input_ids=chunk, past_key_values=cache, use_cache=True)
        return True

    def _write(self, ids: Sequence[int], cache: DynamicCache | None, limits: Limits, growing: "_Growing") -> list[int]:
        """Let the model write; return the tokens of prompt and answer."""
        if not limits.decoding.max_new_tokens:
            return list(ids)
        if limits.decoding.temperature:
            torch.manual_seed(limits.decoding.seed)
        prompt = torch.tensor([list(ids)], device=self._loaded.device)
        config = generation_config(self._loaded.tokenizer, limits.decoding)
        generator: Any = self._loaded.model
        rows = generator.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([growing]),
            **({} if cache is None else {"past_key_values": cache}),
        )
        growing.finish()
        return [int(token) for token in rows[0].tolist()]


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids of the tokens that end an answer: all special ones but the placeholders of redacted values."""
    markers = sorted(special_tokens(tokenizer) - set(PLACEHOLDERS))
    return frozenset({tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(markers)})


class _Growing(StoppingCriteria):
    """Reads an answer while it grows, hands its certain text on, and stops it."""

    def __init__(self, start: int, reader: AnswerReader, limits: Limits, listener: Listener) -> None:
        self._start, self._reader, self._limits, self._listener = start, reader, limits, listener
        self._sent = 0
        self.reading = Reading("")
        self.first: float | None = None

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self.first = self.first or perf_counter()
        before = self.reading.text
        self.reading = self._reader.read(input_ids[0, self._start :].tolist())
        self._send(self.reading.certain)
        done = self.reading.stopped_by is not None or self._listener.cancelled() or self._is_late(before)
        return torch.tensor([done], device=input_ids.device)

    @property
    def text(self) -> str:
        """The text of the answer, once it is complete."""
        return self._reader.whole(self.reading)

    def finish(self) -> None:
        """Hand on the rest of the text."""
        self._send(len(self.text))

    def _is_late(self, before: str) -> bool:
        """Whether the time is up; as in llama.cpp, an answer ends only with a line."""
        if self._limits.milliseconds is None or self.first is None:
            return False
        ends_line = "\n" in self.reading.text[len(before) :]
        return ends_line and 1000 * (perf_counter() - self.first) > self._limits.milliseconds

    def _send(self, end: int) -> None:
        if self._listener.emit is not None and end > self._sent:
            self._listener.emit(self.reading.text[self._sent : end])
            self._sent = end

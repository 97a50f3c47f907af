"""Generates answers to prompts, in batches; the model, and a training around it, are as before afterwards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from blocklm.models.loaded import LoadedModel

REHEARSED = 2  # tokens written: one from the prompt, one from the cache
BATCH_TOKENS = 4096  # tokens of prompts and answers in a batch, padded; halved where memory runs out


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen, and when an answer ends.

    Attributes:
        max_new_tokens: maximum tokens of an answer.
        temperature: 0, the default, takes the likeliest token; above 0, tokens are sampled.
        seed: seed of the sampling.
        may_end: if false, every answer has exactly `max_new_tokens` tokens.
        stops: texts that end an answer and are not part of it.
        top_k: number of likeliest tokens that are sampled from; 0, the default, for all.
        top_p: probability that the tokens have together that are sampled from; 1, the default, for all.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    may_end: bool = True
    stops: tuple[str, ...] = ()
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """An answer.

    Attributes:
        text: the lines that are read.
        ended: whether the model ended the answer there itself, by EOS or a stop.
        ids: all generated token ids, without EOS.
    """

    text: str
    ended: bool
    ids: tuple[int, ...] = field(default=(), compare=False)


def generate(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    lines: Sequence[int | None] | None = None,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
) -> list[Output]:
    """Return the answers of `generate_stream` in the order of the prompts."""
    outputs = dict(generate_stream(loaded, prompts, decoding, lines, name, streamer))
    return [outputs[place] for place in range(len(prompts))]


def generate_stream(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    lines: Sequence[int | None] | None = None,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
) -> Iterator[tuple[int, Output]]:
    """Continue each prompt; yield the place of the prompt with its answer, batch by batch, the longest prompts first.

    An answer is what the model would write to its prompt alone, up to the rounding of batched sums. Train or eval mode
    and the random state are restored afterwards.

    Args:
        loaded: the model.
        prompts: token ids.
        decoding: choice of tokens and length of the answers.
        lines: number of lines of each answer that are read, or None for all of them; by default all of every answer.
        name: title of the progress bar; None for no bar.
        streamer: receiver of the tokens of a single prompt's answer as they come.
    """
    read = [None] * len(prompts) if lines is None else lines
    waiting = list(_batches(prompts, decoding.max_new_tokens))
    with (
        loaded.evaluation_mode(),
        torch.no_grad(),
        loaded.autocast(),
        loaded.converted_head(),
        tqdm(total=len(prompts), desc=name, unit=" answers", disable=None if name else True) as progress,
    ):
        while waiting:
            places = waiting.pop(0)
            batch = _Batch([prompts[place] for place in places], [read[place] for place in places])
            answers = _if_it_fits(loaded, batch, decoding, streamer)
            if answers is None:
                clear_device_cache(garbage_collection=True)
                half = (len(places) + 1) // 2
                waiting = [places[:half], places[half:], *waiting]
            else:
                yield from zip(places, answers, strict=True)
                progress.update(len(places))


def rehearse(loaded: LoadedModel, prompts: Sequence[Sequence[int]], decoding: Decoding) -> None:
    """Use once the most memory that `generate` will need: its largest batch, at the end of the answers."""
    batches = [[prompts[place] for place in places] for places in _batches(prompts, decoding.max_new_tokens)]
    largest = max(batches, key=lambda batch: len(batch) * len(batch[0]))
    answers = [loaded.pad_token_id] * (decoding.max_new_tokens - REHEARSED)
    generate(loaded, [[*prompt, *answers] for prompt in largest], Decoding(REHEARSED))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompts that are continued together, and the number of lines that are read of each answer."""

    prompts: Sequence[Sequence[int]]
    lines: Sequence[int | None]


def _if_it_fits(
    loaded: LoadedModel, batch: _Batch, decoding: Decoding, streamer: BaseStreamer | None
) -> list[Output] | None:
    """Continue a batch; return None if memory ran out and the batch can be halved."""
    try:
        return _continue_batch(loaded, batch, decoding, streamer)
    except RuntimeError as error:
        if len(batch.prompts) == 1 or not should_reduce_batch_size(error):
            raise
        return None


def _batches(prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
    """Yield the places of the prompts of each batch, longest first: one prompt, or at most `BATCH_TOKENS` with answers.

    No prompt is less than half as long as the first of its batch, because padding takes as long as text.
    """
    order = sorted(range(len(prompts)), key=lambda place: -len(prompts[place]))
    while order:
        longest = len(prompts[order[0]])
        alike = sum(2 * len(prompts[place]) >= longest for place in order)
        count = min(alike, max(1, BATCH_TOKENS // (longest + max_new_tokens)))
        yield order[:count]
        order = order[count:]


def _continue_batch(
    loaded: LoadedModel, batch: _Batch, decoding: Decoding, streamer: BaseStreamer | None
) -> list[Output]:
    """Continue a batch of prompts, padded on the left."""
    longest = max(map(len, batch.prompts))
    padding = [longest - len(prompt) for prompt in batch.prompts]
    rows = [[loaded.pad_token_id] * pad + list(prompt) for pad, prompt in zip(padding, batch.prompts, strict=True)]
    ids = torch.tensor(rows, device=loaded.device)
    mask = torch.arange(longest, device=ids.device) >= torch.tensor(padding, device=ids.device)[:, None]
    reader = _Reader(loaded.tokenizer, longest, batch.lines, decoding.stops)
    torch.manual_seed(decoding.seed)
    generator: Any = loaded.model
    outputs = generator.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        generation_config=generation_config(loaded.tokenizer, decoding),
        stopping_criteria=StoppingCriteriaList([reader]),
        streamer=streamer,
    )
    return [reader.output(row, limit) for row, limit in zip(outputs.tolist(), batch.lines, strict=True)]


def generation_config(tokenizer: PreTrainedTokenizerBase, decoding: Decoding) -> GenerationConfig:
    """Set every option: transformers fills the others from the model's own defaults, which may sample or penalise."""
    sampling = {"temperature": decoding.temperature, "top_k": decoding.top_k, "top_p": decoding.top_p}
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=0 if decoding.may_end else decoding.max_new_tokens,
        do_sample=bool(decoding.temperature),
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,  # the trainer turns it off in the model's config
        **(sampling if decoding.temperature else {}),
    )


def until(text: str, stops: Sequence[str]) -> str:
    """Cut a text before the first of `stops`."""
    return text[: min((start for stop in stops if (start := text.find(stop)) >= 0), default=len(text))]


class _Reader(StoppingCriteria):
    """Stops each answer once it has more than the lines that are read, or holds a stop."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, start: int, lines: Sequence[int | None], stops: Sequence[str]
    ) -> None:
        self._tokenizer, self._start, self._lines, self._stops = tokenizer, start, lines, stops

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        rows = zip(input_ids.tolist(), self._lines, strict=True)
        return torch.tensor([self._goes_beyond(row, limit) for row, limit in rows], device=input_ids.device)

    def output(self, row: list[int], limit: int | None) -> Output:
        """Read the answer from a row of token ids, without EOS and without the lines that are not read."""
        read, ended = self._read(row)
        answer, ids = self._text(read), tuple(read)
        text = until(answer, self._stops)
        ended = ended or len(text) < len(answer)
        if limit is None:
            return Output(text, ended, ids)
        lines = text.split("\n", limit)
        if len(lines) <= limit:
            return Output(text, ended, ids)
        return Output("".join(f"{line}\n" for line in lines[:limit]), ended and not lines[limit].strip(), ids)

    def _goes_beyond(self, row: list[int], limit: int | None) -> bool:
        if limit is None and not self._stops:
            return False
        text = self._text(self._read(row)[0])
        if any(stop in text for stop in self._stops):
            return True
        lines = text.split("\n", -1 if limit is None else limit)
        return limit is not None and len(lines) > limit and bool(lines[limit].strip())

    def _read(self, row: list[int]) -> tuple[list[int], bool]:
        answer, end = row[self._start :], self._tokenizer.eos_token_id
        return (answer[: answer.index(end)], True) if end in answer else (answer, False)

    def _text(self, ids: list[int]) -> str:
        """Decode with special tokens, because the placeholders of redacted values are special tokens."""
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

"""Prompts to answers: batched, deterministic unless drawn, without a trace in the model or in a training around it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from blocklm.models.inference_state import at_rest

REHEARSED = 2  # tokens written: one from the prompt, one from the cache
BATCH_TOKENS = 4096  # of prompts and answers, padded: what the cache of a batch holds; less where memory runs out


@dataclass(frozen=True, slots=True)
class Decoding:
    """How answers come about: the likeliest tokens, or drawn at a temperature above 0 by a seed.

    One that may not end is of `max_new_tokens`. Each of `stops` ends an answer and is no part of it.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    may_end: bool = True
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """What a model wrote; `ended` if it said itself that this is all, and wrote nothing after the lines that are read.

    `ids` are all tokens that came, without the end.
    """

    text: str
    ended: bool
    ids: tuple[int, ...] = field(default=(), compare=False)


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    lines: Sequence[int | None],
    decoding: Decoding,
    dtype: torch.dtype,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
) -> list[Output]:
    """What `generate_stream` yields, in the order of the prompts."""
    outputs = dict(generate_stream(model, tokenizer, prompts, lines, decoding, dtype, name, streamer))
    return [outputs[at] for at in range(len(prompts))]


def generate_stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    lines: Sequence[int | None],
    decoding: Decoding,
    dtype: torch.dtype,
    name: str | None = None,
    streamer: BaseStreamer | None = None,
) -> Iterator[tuple[int, Output]]:
    """Let the model write on from each prompt, until it ends its answer or the answer is long enough.

    Each answer comes with the place of its prompt, batch by batch, the longest prompts first; it is what the model
    would write to that prompt alone, as far as batched sums round alike.

    Args:
        model: in any mode; it stays in it.
        tokenizer: of the model.
        prompts: token ids.
        lines: how many lines of an answer are read; None for all.
        decoding: how tokens are chosen, and how many at most.
        dtype: dtype of the matrix products.
        name: what the progress bar says; None for no bar.
        streamer: is given the tokens of the only prompt's answer as they come.
    """
    device = next(model.parameters()).device
    waiting = list(_batches(prompts, decoding.max_new_tokens))
    with (
        at_rest(model),
        torch.no_grad(),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
        tqdm(total=len(prompts), desc=name, unit=" answers", disable=None if name else True) as progress,
    ):
        while waiting:
            places = waiting.pop(0)
            asked, read = [prompts[at] for at in places], [lines[at] for at in places]
            answers = _if_it_fits(model, tokenizer, asked, read, decoding, streamer)
            if answers is None:
                clear_device_cache(garbage_collection=True)
                half = (len(places) + 1) // 2
                waiting = [places[:half], places[half:], *waiting]
            else:
                yield from zip(places, answers, strict=True)
                progress.update(len(places))


def rehearse(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    dtype: torch.dtype,
) -> None:
    """Hold in memory, once, the most that `generate` will of these prompts: its largest batch, at the answers' end."""
    batches = [[prompts[at] for at in places] for places in _batches(prompts, decoding.max_new_tokens)]
    largest = max(batches, key=lambda batch: len(batch) * len(batch[0]))
    answers = [tokenizer.pad_token_id] * (decoding.max_new_tokens - REHEARSED)
    whole = [[*prompt, *answers] for prompt in largest]
    generate(model, tokenizer, whole, [None] * len(whole), Decoding(REHEARSED), dtype)


def _if_it_fits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    lines: Sequence[int | None],
    decoding: Decoding,
    streamer: BaseStreamer | None,
) -> list[Output] | None:
    """One batch; None if memory ran out and it can be halved."""
    try:
        return _written(model, tokenizer, prompts, lines, decoding, streamer)
    except RuntimeError as error:
        if len(prompts) == 1 or not should_reduce_batch_size(error):
            raise
        return None


def _batches(prompts: Sequence[Sequence[int]], max_new_tokens: int) -> Iterator[list[int]]:
    """Places of prompts, longest first, at most `BATCH_TOKENS` with their answers or one prompt.

    None is less than half as long as the first: reading padding takes as long as reading text.
    """
    order = sorted(range(len(prompts)), key=lambda at: -len(prompts[at]))
    while order:
        longest = len(prompts[order[0]])
        alike = sum(2 * len(prompts[at]) >= longest for at in order)
        count = min(alike, max(1, BATCH_TOKENS // (longest + max_new_tokens)))
        yield order[:count]
        order = order[count:]


def _written(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    lines: Sequence[int | None],
    decoding: Decoding,
    streamer: BaseStreamer | None,
) -> list[Output]:
    """One batch, padded on the left."""
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    rows = [[tokenizer.pad_token_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    ids = torch.tensor(rows, device=next(model.parameters()).device)
    mask = torch.arange(longest, device=ids.device) >= torch.tensor(padding, device=ids.device)[:, None]
    reader = _Reader(tokenizer, longest, lines, decoding.stops)
    torch.manual_seed(decoding.seed)
    generator: Any = model
    generate_stream = generator.generate(
        input_ids=ids,
        attention_mask=mask.long(),
        generation_config=_config(tokenizer, decoding),
        stopping_criteria=StoppingCriteriaList([reader]),
        streamer=streamer,
    )
    return [reader.output(row, limit) for row, limit in zip(generate_stream.tolist(), lines, strict=True)]


def _config(tokenizer: PreTrainedTokenizerBase, decoding: Decoding) -> GenerationConfig:
    """Every choice said: what is left open is filled from the model's own defaults, of which some draw or punish."""
    drawn = {"temperature": decoding.temperature, "top_k": 0, "top_p": 1.0} if decoding.temperature else {}
    return GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=0 if decoding.may_end else decoding.max_new_tokens,
        do_sample=bool(decoding.temperature),
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,  # the trainer switches it off in the model's config
        **drawn,
    )


def until(text: str, stops: Sequence[str]) -> str:
    """The text before the first of some others, or all of it."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


class _Reader(StoppingCriteria):
    """Reads each answer as it grows, and stops it where it goes on beyond the lines that are read."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, start: int, lines: Sequence[int | None], stops: Sequence[str]
    ) -> None:
        self._tokenizer, self._start, self._lines, self._stops = tokenizer, start, lines, stops

    def __call__(self, input_ids: torch.LongTensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        rows = zip(input_ids.tolist(), self._lines, strict=True)
        return torch.tensor([self._goes_beyond(row, limit) for row, limit in rows], device=input_ids.device)

    def output(self, row: list[int], limit: int | None) -> Output:
        """The answer in a row of token ids: of the lines that are read, without its end token."""
        read, ended = self._read(row)
        whole, ids = self._text(read), tuple(read)
        text = until(whole, self._stops)
        ended = ended or len(text) < len(whole)
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
        """Special tokens are part of it: the placeholders of what was redacted are some."""
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

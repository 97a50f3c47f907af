"""Samples become token ids: the same way for training, validation and exam.

The target is never cut. A prompt that is too long loses the beginning of its context, which is farthest from the
target, and never what makes it a prompt; a target that does not fit at all is left out and counted. Every completion
ends with EOS, and labels, not token ids, say what padding is.
"""

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, Features, List, Value
from tqdm import tqdm

from blocklm import cache

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
MIN_CONTEXT_TOKENS = 16
SAMPLES_PER_BATCH = 1000
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "sample": Value("int32")})


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, their labels (`IGNORED` on the prompt) and which of them the commit added."""

    input_ids: list[int]
    labels: list[int]
    scored: list[bool]
    trimmed: bool


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """Rows of `input_ids`, `labels` and `sample` (its place in what was encoded), and what the length limit cost."""

    dataset: Dataset
    tokens: int
    trimmed: int
    too_long: int


def encode(
    samples: Mapping[str, Sequence[Any]], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> list[Encoded | None]:
    """Encode samples within `max_length` tokens, None where the target leaves no room for a prompt.

    Args:
        samples: columns `prompt`, `context`, `completion` and `added`.
        tokenizer: a fast one.
        max_length: of prompt and target together.
    """
    if not len(samples["prompt"]):
        return []
    start = tokenizer("").input_ids  # BOS where the model expects one
    prompts = tokenizer(list(samples["prompt"]), add_special_tokens=False).input_ids
    targets = tokenizer(list(samples["completion"]), add_special_tokens=False, return_offsets_mapping=True)
    found: list[Encoded | None] = []
    for at, (prompt, target) in enumerate(zip(prompts, targets.input_ids, strict=True)):
        target_ids = [*target, tokenizer.eos_token_id]
        excess = len(start) + len(prompt) + len(target_ids) - max_length
        if excess > 0:
            cut = _without_context(samples["prompt"][at], samples["context"][at], excess, tokenizer)
            if cut is None:
                found.append(None)
                continue
            prompt = cut
        context = start + prompt
        found.append(
            Encoded(
                input_ids=context + target_ids,
                labels=[IGNORED] * len(context) + target_ids,
                scored=[False] * len(context) + _within(targets["offset_mapping"][at], samples["added"][at]) + [False],
                trimmed=excess > 0,
            )
        )
    return found


def _without_context(
    prompt: str, context: Sequence[int], excess: int, tokenizer: "PreTrainedTokenizerBase"
) -> list[int] | None:
    """The prompt without the first `excess` tokens of its context, None if it has not so many to spare."""
    encoded = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    first, inside = count_context(encoded["offset_mapping"], context)
    if not can_spare(inside, excess):
        return None
    ids: list[int] = encoded.input_ids
    return ids[:first] + ids[first + excess :]


def count_context(offsets: Sequence[tuple[int, int]], context: Sequence[int]) -> tuple[int, int]:
    """Count the tokens of a prompt that end before its context, and those that end in it.

    Args:
        offsets: start and end of each token in characters.
        context: start and end of the context in characters.
    """
    ends = list(accumulate((end for _, end in offsets), max))
    first = bisect_right(ends, context[0])
    return first, bisect_right(ends, context[1]) - first


def can_spare(context_tokens: int, excess: int) -> bool:
    """Whether a context can lose `excess` tokens and keep `MIN_CONTEXT_TOKENS`, or all it has if these are fewer."""
    return context_tokens - excess >= min(MIN_CONTEXT_TOKENS, context_tokens)


@dataclass(frozen=True)
class SampleEncoder:
    """Encodes splits for the trainer, and keeps them on disk.

    Attributes:
        tokenizer: a fast tokenizer.
        folder: folder of the cached encodings.
    """

    tokenizer: "PreTrainedTokenizerBase"
    folder: Path

    def encode_split(self, samples: Dataset, max_length: int) -> EncodedSplit:
        """Encode samples, or read the cached result.

        Args:
            samples: samples with their prompts, completions and ids.
            max_length: maximum tokens of prompt and target together.
        """
        content = sha256(json.dumps([samples[name][:] for name in ("prompt", "context", "completion")]).encode())
        tokenizer = self.tokenizer
        text = [tokenizer.backend_tokenizer.to_str(), tokenizer("").input_ids, tokenizer.eos_token_id]
        settings = {"samples": content.hexdigest(), "tokenizer": text, "max_length": max_length}
        key = cache.data_key("models.tokenization", "cache", **settings)
        stored = cache.read_or_build(
            self.folder / f"tokens-{key}", lambda ready: _encode(samples, tokenizer, max_length, ready)
        )
        return EncodedSplit(stored.dataset, **stored.report)


def _encode(samples: Dataset, tokenizer: "PreTrainedTokenizerBase", max_length: int, ready: Path) -> dict[str, int]:
    counts = {"tokens": 0, "trimmed": 0, "too_long": 0}

    def batches() -> Iterator[pa.RecordBatch]:
        starts = range(0, len(samples), SAMPLES_PER_BATCH)
        for start in tqdm(starts, "encoding", unit=" thousand samples", disable=None if len(starts) > 1 else True):
            some = samples[start : start + SAMPLES_PER_BATCH]
            found = [(at, one) for at, one in enumerate(encode(some, tokenizer, max_length), start) if one is not None]
            counts["too_long"] += len(some["id"]) - len(found)
            counts["tokens"] += sum(len(one.input_ids) for _, one in found)
            counts["trimmed"] += sum(one.trimmed for _, one in found)
            rows = [{"input_ids": one.input_ids, "labels": one.labels, "sample": at} for at, one in found]
            yield pa.RecordBatch.from_pylist(rows, ENCODED.arrow_schema)

    cache.write_dataset(ready / "data", batches(), ENCODED, fingerprint=f"{len(samples)}-{max_length}")
    return counts


def _within(offsets: list[tuple[int, int]], added: list[int]) -> list[bool]:
    """Whether each token begins inside one of the added spans.

    A token begins where the one before it ends: byte-level tokenizers trim whitespace from the offsets they report.
    """
    spans = list(zip(added[::2], added[1::2], strict=True))
    begins = [0, *accumulate((end for _, end in offsets), max)]
    return [any(start <= begin < end for start, end in spans) for begin in begins[: len(offsets)]]


def fitted(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", room: int) -> list[int]:
    """Tokens of as many whole texts as fit, the first of them last; one that does not fit is passed over."""
    chosen: list[int] = []
    for text in texts:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        if len(chosen) + len(ids) <= room:
            chosen = ids + chosen
    return chosen

"""Encodes samples as token ids, in the same way for training, validation and exam.

A completion is never cut. A prompt that is too long loses the beginning of its context, which is farthest from the
completion, and no other part. A sample that is still too long is left out and counted. Every completion ends with EOS.
Labels, not token ids, mark padding.
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
    """An encoded sample.

    Attributes:
        input_ids: ids of the prompt, the completion and EOS.
        labels: the same ids, with `IGNORED` in place of the prompt's.
        scored: mask of the tokens that the commit added.
        trimmed: whether the context was cut.
    """

    input_ids: list[int]
    labels: list[int]
    scored: list[bool]
    trimmed: bool


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """The encoded samples of a split.

    Attributes:
        dataset: rows of `input_ids`, `labels` and `sample`, the number of the sample in the split.
        tokens: number of tokens of all rows.
        trimmed: number of samples whose context was cut.
        too_long: number of samples that were left out.
    """

    dataset: Dataset
    tokens: int
    trimmed: int
    too_long: int


def encode(
    samples: Mapping[str, Sequence[Any]], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> list[Encoded | None]:
    """Encode samples within `max_length` tokens; None takes the place of each sample that is too long.

    Args:
        samples: columns `prompt`, `context`, `completion` and `added`.
        tokenizer: a fast tokenizer.
        max_length: maximum tokens of prompt and completion together.
    """
    if not len(samples["prompt"]):
        return []
    start = tokenizer("").input_ids  # BOS, if the model expects one
    prompts = tokenizer(list(samples["prompt"]), add_special_tokens=False).input_ids
    completions = tokenizer(list(samples["completion"]), add_special_tokens=False, return_offsets_mapping=True)
    encoded: list[Encoded | None] = []
    for row, (prompt, completion) in enumerate(zip(prompts, completions.input_ids, strict=True)):
        target_ids = [*completion, tokenizer.eos_token_id]
        excess = len(start) + len(prompt) + len(target_ids) - max_length
        if excess > 0:
            trimmed = _trim_context(samples["prompt"][row], samples["context"][row], excess, tokenizer)
            if trimmed is None:
                encoded.append(None)
                continue
            prompt = trimmed
        context = start + prompt
        added = _begins_within(completions["offset_mapping"][row], samples["added"][row])
        encoded.append(
            Encoded(
                input_ids=context + target_ids,
                labels=[IGNORED] * len(context) + target_ids,
                scored=[False] * len(context) + added + [False],
                trimmed=excess > 0,
            )
        )
    return encoded


def _trim_context(
    prompt: str, context: Sequence[int], excess: int, tokenizer: "PreTrainedTokenizerBase"
) -> list[int] | None:
    """Encode a prompt without the first `excess` tokens of its context; return None if too few tokens would be left."""
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
    """Tell whether a context that loses `excess` tokens keeps `MIN_CONTEXT_TOKENS`; a shorter context may lose none."""
    return context_tokens - excess >= min(MIN_CONTEXT_TOKENS, context_tokens)


@dataclass(frozen=True)
class SampleEncoder:
    """Encodes splits for the trainer, and caches them on disk.

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
            max_length: maximum tokens of prompt and completion together.
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
            batch = encode(samples[start : start + SAMPLES_PER_BATCH], tokenizer, max_length)
            fitting = [(number, sample) for number, sample in enumerate(batch, start) if sample is not None]
            counts["too_long"] += len(batch) - len(fitting)
            counts["tokens"] += sum(len(sample.input_ids) for _, sample in fitting)
            counts["trimmed"] += sum(sample.trimmed for _, sample in fitting)
            rows = [
                {"input_ids": sample.input_ids, "labels": sample.labels, "sample": number}
                for number, sample in fitting
            ]
            yield pa.RecordBatch.from_pylist(rows, ENCODED.arrow_schema)

    cache.write_dataset(ready / "data", batches(), ENCODED, fingerprint=f"{len(samples)}-{max_length}")
    return counts


def _begins_within(offsets: list[tuple[int, int]], added: list[int]) -> list[bool]:
    """Tell of each token whether it begins inside one of the added spans.

    A token begins where the one before it ends, because byte-level tokenizers report offsets without whitespace.

    Args:
        offsets: start and end of each token in characters.
        added: start and end of each span in characters, one after the other.
    """
    spans = list(zip(added[::2], added[1::2], strict=True))
    begins = [0, *accumulate((end for _, end in offsets), max)]
    return [any(start <= begin < end for start, end in spans) for begin in begins[: len(offsets)]]


def fit_texts(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", budget: int) -> list[int]:
    """Encode the texts that fit in a budget of tokens, each completely, in reverse order.

    Texts are taken in their order; one that does not fit is skipped.
    """
    chosen: list[int] = []
    for text in texts:
        ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
        if len(chosen) + len(ids) <= budget:
            chosen = ids + chosen
    return chosen

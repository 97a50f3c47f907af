"""Samples become token ids: the same way for training, validation and exam.

The target is never cut. A prompt that is too long loses its beginning, which is farthest from the target; a target that
does not fit at all is left out and counted. Every completion ends with EOS, and labels, not token ids, say what padding is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

IGNORED = -100
MIN_PROMPT_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids, their labels (`IGNORED` on the prompt) and which of them the commit added."""

    input_ids: list[int]
    labels: list[int]
    scored: list[bool]
    trimmed: bool


@dataclass(frozen=True, slots=True)
class EncodedSplit:
    """A dataset with `input_ids` and `labels`, and what the length limit cost."""

    dataset: Dataset
    tokens: int
    trimmed: int
    too_long: int


def encode(
    prompt: str, completion: str, added: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> Encoded | None:
    """Encode one sample within `max_length` tokens, None if its target leaves no room for a prompt."""
    start = tokenizer("").input_ids  # BOS where the model expects one
    prompt_ids = tokenizer(prompt, add_special_tokens=False).input_ids
    target = tokenizer(completion, add_special_tokens=False, return_offsets_mapping=True)
    target_ids = [*target.input_ids, tokenizer.eos_token_id]
    room = max_length - len(target_ids) - len(start)
    if room < min(MIN_PROMPT_TOKENS, len(prompt_ids)):
        return None
    trimmed = len(prompt_ids) > room
    context = start + (prompt_ids[-room:] if trimmed else prompt_ids)
    return Encoded(
        input_ids=context + target_ids,
        labels=[IGNORED] * len(context) + target_ids,
        scored=[False] * len(context) + _within(target["offset_mapping"], added) + [False],
        trimmed=trimmed,
    )


def encode_split(samples: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedSplit:
    """Encode a split for the trainer."""
    counts = {"tokens": 0, "trimmed": 0, "too_long": 0}

    def rows() -> Iterator[dict[str, Any]]:
        for sample in samples:
            encoded = encode(sample["prompt"], sample["completion"], sample["added"], tokenizer, max_length)
            if encoded is None:
                counts["too_long"] += 1
                continue
            counts["tokens"] += len(encoded.input_ids)
            counts["trimmed"] += encoded.trimmed
            yield {"input_ids": encoded.input_ids, "labels": encoded.labels}

    return EncodedSplit(Dataset.from_list(list(rows())), **counts)


def _within(offsets: list[tuple[int, int]], added: list[int]) -> list[bool]:
    """Whether each token begins inside one of the added spans.

    A token begins where the one before it ends: byte-level tokenizers trim whitespace from the offsets they report.
    """
    spans = list(zip(added[::2], added[1::2], strict=True))
    begins = [0, *accumulate((end for _, end in offsets), max)]
    return [any(start <= begin < end for start, end in spans) for begin in begins[: len(offsets)]]

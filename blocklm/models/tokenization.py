"""Encodes samples as token ids, in the same way for training, validation, exam and requests.

A completion is never cut. A prompt that is too long loses first the pieces of other files that stand before it, then
the text farthest from the completion: the beginning of what stands before it, the end of what follows it, by whole
lines where possible. No other part is lost. A sample that is still too long is left out and counted. Every completion
ends with EOS. Labels, not token ids, mark padding.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, Features, List, Value
from tqdm import tqdm

from blocklm import cache
from blocklm.models.prompt_cutting import CUT_COLUMNS, CutParts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
READ_COLUMNS = ("prompt", *CUT_COLUMNS, "completion")
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
        too_long: number of samples that were left out because they do not fit.
        unread: number of samples that were left out because the file around their place cannot be shown.
    """

    dataset: Dataset
    tokens: int
    trimmed: int
    too_long: int
    unread: int


def encode(
    samples: Mapping[str, Sequence[Any]],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    retrieved_length: int = 0,
    retrieved_first: bool = False,
) -> list[Encoded | None]:
    """Encode samples within `max_length` tokens; None takes the place of each sample that is too long.

    Args:
        samples: columns `prompt`, `context`, `completion` and `added`, and where prompts have such parts, `suffix`,
            `pieces` and `retrieved`.
        tokenizer: a fast tokenizer.
        max_length: maximum tokens of prompt and completion together.
        retrieved_length: maximum tokens of retrieved pieces, which come on top; 0, the default, counts them in
            `max_length` like everything else.
        retrieved_first: whether retrieved pieces within `max_length` are kept before recent edits.
    """
    if not len(samples["prompt"]):
        return []
    start = tokenizer("").input_ids  # BOS, if the model expects one
    prompts = tokenizer(list(samples["prompt"]), add_special_tokens=False, return_offsets_mapping=True)
    completions = tokenizer(list(samples["completion"]), add_special_tokens=False, return_offsets_mapping=True)
    encoded: list[Encoded | None] = []
    for row, (prompt, completion) in enumerate(zip(prompts.input_ids, completions.input_ids, strict=True)):
        target_ids = [*completion, tokenizer.eos_token_id]
        room = max_length - len(start) - len(target_ids)
        trimmed = len(prompt) > room
        if trimmed:
            parts = CutParts.of(samples, row, prompts["offset_mapping"][row])
            kept = parts.fit(samples["prompt"][row], room, retrieved_length, retrieved_first)
            if kept is None:
                encoded.append(None)
                continue
            prompt = [prompt[place] for place in kept]
        context = start + prompt
        added = _begins_within(completions["offset_mapping"][row], samples["added"][row])
        encoded.append(
            Encoded(
                input_ids=context + target_ids,
                labels=[IGNORED] * len(context) + target_ids,
                scored=[False] * len(context) + added + [False],
                trimmed=trimmed,
            )
        )
    return encoded


Fill = Callable[[Mapping[str, list[Any]], int], Mapping[str, list[Any]]]


def _as_stored(samples: Mapping[str, list[Any]], max_length: int) -> Mapping[str, list[Any]]:
    return samples


@dataclass(frozen=True)
class SampleEncoder:
    """Encodes splits for the trainer, and caches them on disk.

    Attributes:
        tokenizer: a fast tokenizer.
        folder: folder of the cached encodings.
        fill: builds the prompts of samples of which the corpus stores only a place, from columns of samples and the
            maximum tokens of each; default: they are left as they are.
        origin: a name of what `fill` reads, for the cache.
        retrieved_first: whether retrieved pieces are kept before recent edits; default: no.
    """

    tokenizer: "PreTrainedTokenizerBase"
    folder: Path
    fill: Fill = _as_stored
    origin: str = ""
    retrieved_first: bool = False

    def encode(self, samples: Dataset, max_length: int) -> list[Encoded | None]:
        """Encode samples within `max_length` tokens; None stands for each that is too long or cannot be read."""
        return self.encode_columns(samples, max_length)[1]

    def encode_columns(
        self, samples: Dataset, max_length: int
    ) -> tuple[Mapping[str, list[Any]], list[Encoded | None]]:
        """Build the prompts of samples and encode them; return the columns with their prompts, and the encodings."""
        columns = self.fill(samples[:], max_length)
        encoded = encode(columns, self.tokenizer, max_length, retrieved_first=self.retrieved_first)
        readable = [row if text else None for row, text in zip(encoded, columns["completion"], strict=True)]
        return columns, readable

    def encode_split(self, samples: Dataset, max_length: int) -> EncodedSplit:
        """Encode samples, or read the cached result.

        Args:
            samples: samples with their prompts, completions and ids.
            max_length: maximum tokens of prompt and completion together.
        """
        names = [name for name in ("id", *READ_COLUMNS) if name in samples.features]
        content = sha256(json.dumps([self.origin, *(samples[name][:] for name in names)]).encode())
        tokenizer = self.tokenizer
        text = [tokenizer.backend_tokenizer.to_str(), tokenizer("").input_ids, tokenizer.eos_token_id]
        settings = {"samples": content.hexdigest(), "tokenizer": text, "max_length": max_length}
        key = cache.data_key("models.tokenization", "models.prompt_cutting", "cache", **settings)
        stored = cache.read_or_build(
            self.folder / f"tokens-{key}", lambda ready: self._encode_batches(samples, max_length, ready)
        )
        return EncodedSplit(stored.dataset, **stored.report)

    def _encode_batches(self, samples: Dataset, max_length: int, ready: Path) -> dict[str, int]:
        """Encode samples batch by batch into the folder `ready`, and count what happened to them."""
        counts = {"tokens": 0, "trimmed": 0, "too_long": 0, "unread": 0}

        def batches() -> Iterator[pa.RecordBatch]:
            starts = range(0, len(samples), SAMPLES_PER_BATCH)
            for start in tqdm(starts, "encoding", unit=" thousand samples", disable=None if len(starts) > 1 else True):
                part = samples.select(range(start, min(start + SAMPLES_PER_BATCH, len(samples))))
                columns, batch = self.encode_columns(part, max_length)
                unread = sum(not text for text in columns["completion"])
                fitting = [(number, sample) for number, sample in enumerate(batch, start) if sample is not None]
                counts["too_long"] += len(batch) - len(fitting) - unread
                counts["unread"] += unread
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

"""Encodes the samples of a split, builds the prompts of those that are stored as places, and caches the result."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from datasets import Dataset, Features, List, Value
from tqdm import tqdm

from blocklm import cache
from blocklm.models.tokenization.encode import Encoded, encode
from blocklm.models.tokenization.prompt_cutting import CUT_COLUMNS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

READ_COLUMNS = ("prompt", *CUT_COLUMNS, "completion")
SAMPLES_PER_BATCH = 1000
ENCODED = Features({"input_ids": List(Value("int32")), "labels": List(Value("int32")), "sample": Value("int32")})
# The modules on which an encoding depends.
MODULES = tuple(
    f"models.tokenization.{name}"
    for name in ("encode", "prompt_cutting", "sample_encoder", "targets", "token_healing")
)


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
        content = sha256(json.dumps(self.origin).encode())
        for batch in samples.select_columns(names).iter(SAMPLES_PER_BATCH):
            content.update(json.dumps(batch).encode())
        tokenizer = self.tokenizer
        text = [tokenizer.backend_tokenizer.to_str(), tokenizer("").input_ids, tokenizer.eos_token_id]
        settings = {"samples": content.hexdigest(), "tokenizer": text, "max_length": max_length}
        key = cache.data_key(*MODULES, "cache", **settings)
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

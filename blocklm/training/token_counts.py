"""Counts the tokens of samples as training does, with the library `tokenizers` alone, and caches the counts.

A length limit is applied to them later; how much text is read around a place in a file depends on the longest limit.
They are cached in `corpus_dir/NAME/token-counts-VOCABULARY-CORPUS`. After new commits only new samples are counted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value
from numpy.typing import NDArray

from blocklm import cache
from blocklm.models.tokenization.prompt_cutting import CutParts
from blocklm.models.tokenization.sample_encoder import MODULES, READ_COLUMNS, Fill
from blocklm.models.tokenization.targets import targets_after
from blocklm.models.tokenization.token_healing import TokenHealing
from blocklm.models.vocabulary import Vocabulary

SAMPLES_PER_VIEW = 500
COUNTS = ("prompt", "spare", "completion")
COUNT_FEATURES = Features(
    {"view": Value("string"), "text": Value("string")} | {name: Value("int32") for name in COUNTS}
)

Counts = tuple[int, int, int]  # tokens of a prompt, those that the sample may lose, and those of a completion


@dataclass(frozen=True)
class TokenCounts:
    """The token counts of at most 500 samples of each view.

    Attributes:
        rows: one row per counted sample: its view, a digest of its text, and the number of tokens in its prompt with
            BOS, those that it may lose, and in its completion with EOS.
        samples: number of samples of each view, counted or not.
    """

    rows: Dataset
    samples: dict[str, int]

    def lengths_within(self, view: str, max_length: int) -> tuple[NDArray[np.int64], int, int]:
        """Apply a length limit to the counted samples of a view.

        Returns:
            The tokens of each sample that fits, how many of these are trimmed, and how many samples are too long.
        """
        table = self.rows.data.table
        lengths, trimmed, too_long = [], 0, 0
        for row in table.filter(pc.equal(table["view"], view)).to_pylist():
            tokens = row["prompt"] + row["completion"]
            excess = tokens - max_length
            if excess > row["spare"]:
                too_long += 1
            else:
                trimmed += excess > 0
                lengths.append(min(tokens, max_length))
        return np.array(lengths, np.int64), trimmed, too_long


@dataclass(frozen=True)
class CountedSamples:
    """Samples to count.

    Attributes:
        samples: samples with the columns `id`, `view`, and those that are encoded.
        key: key of the corpus that they belong to.
        fill: builds the prompts of samples of which the corpus stores only a place.
        max_length: longest limit that will be applied, in tokens.
    """

    samples: Dataset
    key: str
    fill: Fill
    max_length: int


def count_tokens(counted: CountedSamples, vocabulary: Vocabulary, folder: Path) -> TokenCounts:
    """Count the tokens of samples, or read the cached counts.

    Args:
        counted: samples to count.
        vocabulary: vocabulary of the model.
        folder: folder of the cache.
    """
    sources = ("training.token_counts", *MODULES, "cache")
    name = f"token-counts-{cache.data_key(*sources, vocabulary=vocabulary.digest, length=counted.max_length)}"

    def build(ready: Path) -> dict[str, Any]:
        batches = _count(counted, vocabulary, _earlier_counts(folder, name))
        cache.write_dataset(ready / "data", batches, COUNT_FEATURES, fingerprint=counted.key)
        counts = counted.samples.data.table["view"].value_counts().to_pylist()
        return {"samples": {entry["values"]: entry["counts"] for entry in counts}}

    stored = cache.read_or_build(folder / f"{name}-{counted.key}", build)
    return TokenCounts(stored.dataset, stored.report["samples"])


def _earlier_counts(folder: Path, name: str) -> dict[str, Counts]:
    """Read the counts of the newest corpus with the same vocabulary, by digest of the sample's text."""
    earlier = max(folder.glob(f"{name}-*"), key=lambda path: path.stat().st_mtime, default=None)
    stored = None if earlier is None else cache.read(earlier)
    if stored is None:
        return {}
    columns = stored.dataset.data.table.to_pydict()
    return dict(zip(columns["text"], zip(*(columns[count] for count in COUNTS), strict=True), strict=True))


def _count(counted: CountedSamples, vocabulary: Vocabulary, known: Mapping[str, Counts]) -> Iterator[pa.RecordBatch]:
    """Yield the counts of each view as a batch."""
    healing = TokenHealing(vocabulary.tokenizer())
    table = counted.samples.data.table
    for view in table["view"].unique().to_pylist():
        # Ids are digests, so the smallest are a random choice that changes little with new commits.
        own = pc.indices_nonzero(pc.equal(table["view"], view))
        by_id = pc.sort_indices(table["id"].take(own))
        rows = table.take(own.take(by_id[:SAMPLES_PER_VIEW])).to_pylist()
        texts = [_digest(row) for row in rows]
        new = {text: row for text, row in zip(texts, rows, strict=True) if text not in known}
        columns = {name: [row[name] for row in new.values()] for name in counted.samples.column_names}
        filled = counted.fill(columns, counted.max_length)
        counts = {**known, **dict(zip(new, _count_rows(filled, healing, vocabulary.start_tokens), strict=True))}
        yield cache.record_batch([(view, text, *counts[text]) for text in texts], COUNT_FEATURES.arrow_schema)


def _digest(row: Mapping[str, Any]) -> str:
    """Hash a sample's id and texts, on which its counts depend."""
    text = "\0".join(str(row[name]) for name in ("id", *READ_COLUMNS) if name in row)
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _count_rows(columns: Mapping[str, Sequence[Any]], healing: TokenHealing, start_tokens: int) -> Iterator[Counts]:
    prompts = healing.tokenizer.encode_batch(list(columns["prompt"]), add_special_tokens=False)
    targets = targets_after([prompt.ids for prompt in prompts], columns, healing, start_tokens)
    for row, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        # As in `encode`, a text without a prompt loses its end.
        spare = CutParts.of(columns, row, prompt.offsets).spare if len(prompt) else len(target.ids)
        yield start_tokens + len(prompt) - len(target.tail), spare, len(target.ids) + 1

"""Counts the tokens of samples as training does, with the library `tokenizers` alone, and keeps the counts.

Counts do not depend on a length limit, so that any limit can be applied to them later. They are cached in
`corpus_dir/NAME/tokens-of-samples-KEY`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value
from numpy.typing import NDArray

from blocklm import cache
from blocklm.models.tokenization import can_spare, count_context
from blocklm.models.vocabulary import Vocabulary

SAMPLES_PER_VIEW = 500
SEED = 0
COUNTED = Features({"view": Value("string")} | {name: Value("int32") for name in ("prompt", "context", "completion")})


@dataclass(frozen=True)
class TokenCounts:
    """The tokens of at most 500 samples of each view.

    Attributes:
        rows: a row per counted sample: its view and the tokens of its prompt, of the context in it that may be cut, and
            of its completion, with BOS and EOS.
        samples: number of samples of each view, counted or not.
    """

    rows: Dataset
    samples: dict[str, int]

    def within(self, view: str, max_length: int) -> tuple[NDArray[np.int64], int, int]:
        """Apply a length limit to the counted samples of a view.

        Returns:
            Tokens of each sample that fits, the number of these that are trimmed, and the number that is too long.
        """
        table = self.rows.data.table
        lengths, trimmed, too_long = [], 0, 0
        for row in table.filter(pc.equal(table["view"], view)).to_pylist():
            tokens = row["prompt"] + row["completion"]
            excess = tokens - max_length
            if excess > 0 and not can_spare(row["context"], excess):
                too_long += 1
            else:
                trimmed += excess > 0
                lengths.append(min(tokens, max_length))
        return np.array(lengths, np.int64), trimmed, too_long


def count_tokens(samples: Dataset, key: str, vocabulary: Vocabulary, folder: Path) -> TokenCounts:
    """Count the tokens of samples, or read what was counted before.

    Args:
        samples: samples with the columns `view`, `prompt`, `context` and `completion`.
        key: key of the corpus that they belong to.
        vocabulary: vocabulary of the model.
        folder: folder where counts are kept.
    """
    settings = {"corpus": key, "vocabulary": vocabulary.digest}
    counts_key = cache.data_key("models.token_counts", "models.tokenization", "cache", **settings)

    def build(ready: Path) -> dict[str, Any]:
        cache.write_dataset(ready / "data", _count(samples, vocabulary), COUNTED, fingerprint=counts_key)
        counts = samples.data.table["view"].value_counts().to_pylist()
        return {"samples": {entry["values"]: entry["counts"] for entry in counts}}

    rows, report, _ = cache.read_or_build(folder / f"tokens-of-samples-{counts_key}", build)
    return TokenCounts(rows, report["samples"])


def _count(samples: Dataset, vocabulary: Vocabulary) -> Iterator[pa.RecordBatch]:
    """Yield the counts of each view as a batch."""
    tokenizer, generator = vocabulary.tokenizer(), np.random.default_rng(SEED)
    table = samples.data.table.select(["prompt", "context", "completion", "view"])
    for view in table["view"].unique().to_pylist():
        rows = np.flatnonzero(pc.equal(table["view"], view).to_numpy())
        chosen = np.sort(generator.choice(rows, min(len(rows), SAMPLES_PER_VIEW), replace=False))
        columns = table.take(pa.array(chosen)).to_pydict()
        prompts = tokenizer.encode_batch(columns["prompt"], add_special_tokens=False)
        completions = tokenizer.encode_batch_fast(columns["completion"], add_special_tokens=False)
        yield pa.RecordBatch.from_pydict(
            {
                "view": columns["view"],
                "prompt": [vocabulary.start_tokens + len(prompt) for prompt in prompts],
                "context": [
                    count_context(prompt.offsets, context)[1]
                    for prompt, context in zip(prompts, columns["context"], strict=True)
                ],
                "completion": [len(completion) + 1 for completion in completions],
            },
            COUNTED.arrow_schema,
        )

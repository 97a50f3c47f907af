"""Reports the lengths of samples in tokens, and the share of padding in batches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import pack_dataset

from blocklm.models.tokenization import encode

SAMPLES_PER_VIEW = 500
SEED = 0


def length_report(samples: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, batch: int) -> dict[str, Any]:
    """Report tokens by view and the padding in batches of `batch` samples, from at most 500 samples of each view.

    Returns:
        `views`: for each view its number of samples, estimated sum and percentiles of their tokens, and the percent
            that is trimmed and the percent that is too long.
        `padding_percent`: percent of padding in random order, in batches of similar lengths, and when packed into rows
            of `max_length`.
    """
    generator = np.random.default_rng(SEED)
    table = samples.data.table.select(["prompt", "context", "completion", "added", "view"])
    views, lengths = {}, []
    for view in table["view"].unique().to_pylist():
        rows = np.flatnonzero(pc.equal(table["view"], view).to_numpy())
        chosen = np.sort(generator.choice(rows, min(len(rows), SAMPLES_PER_VIEW), replace=False))
        encoded = encode(table.take(pa.array(chosen)).to_pydict(), tokenizer, max_length)
        fitting = [sample for sample in encoded if sample is not None]
        tokens = np.array([len(sample.input_ids) for sample in fitting])
        lengths.append(tokens)
        views[view] = {
            "samples": len(rows),
            "tokens": round(float(tokens.mean()) * len(rows)) if len(tokens) else 0,
            **{f"p{rank}": int(np.percentile(tokens, rank)) if len(tokens) else 0 for rank in (50, 90, 99)},
            "trimmed_percent": round(100 * sum(sample.trimmed for sample in fitting) / max(1, len(fitting)), 1),
            "too_long_percent": round(100 * (1 - len(fitting) / len(encoded)), 1),
        }
    shuffled = generator.permutation(np.concatenate(lengths))
    rows = pack_dataset(Dataset.from_dict({"input_ids": [[0] * int(size) for size in shuffled]}), max_length, "bfd")
    shares = {
        "any order": padding(shuffled, batch),
        "like lengths": padding(np.sort(shuffled), batch),
        "packed": 100 * (1 - shuffled.sum() / (len(rows) * max_length)),
    }
    return {"views": views, "padding_percent": {name: round(float(share), 1) for name, share in shares.items()}}


def padding(lengths: Sequence[int] | np.ndarray[Any, Any], batch: int) -> float:
    """Percent of padding in batches that are each as long as their longest sample."""
    batches = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
    return float(100 * (1 - sum(map(sum, batches)) / sum(len(samples) * max(samples) for samples in batches)))

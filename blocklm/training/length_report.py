"""How long samples are in tokens, and what of a batch would be padding."""

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
    """Tokens by view, measured on at most 500 samples of each, and the share of padding in batches of `batch`.

    Returns:
        `views`: for each its samples, quantiles of their tokens, estimated sum, percent trimmed and too long.
        `padding_percent`: of batches in any order, of batches of like lengths, and packed into rows of `max_length`.
    """
    generator = np.random.default_rng(SEED)
    table = samples.data.table.select(["prompt", "context", "completion", "added", "view"])
    views, lengths = {}, []
    for view in table["view"].unique().to_pylist():
        rows = np.flatnonzero(pc.equal(table["view"], view).to_numpy())
        some = np.sort(generator.choice(rows, min(len(rows), SAMPLES_PER_VIEW), replace=False))
        found = encode(table.take(pa.array(some)).to_pydict(), tokenizer, max_length)
        fitting = [one for one in found if one is not None]
        here = np.array([len(one.input_ids) for one in fitting])
        lengths.append(here)
        views[view] = {
            "samples": len(rows),
            "tokens": round(float(here.mean()) * len(rows)) if len(here) else 0,
            **{f"p{at}": int(np.percentile(here, at)) if len(here) else 0 for at in (50, 90, 99)},
            "trimmed_percent": round(100 * sum(one.trimmed for one in fitting) / max(1, len(fitting)), 1),
            "too_long_percent": round(100 * (1 - len(fitting) / len(found)), 1),
        }
    drawn = generator.permutation(np.concatenate(lengths))
    rows = pack_dataset(Dataset.from_dict({"input_ids": [[0] * int(size) for size in drawn]}), max_length, "bfd")
    shares = {
        "any order": padding(drawn, batch),
        "like lengths": padding(np.sort(drawn), batch),
        "packed": 100 * (1 - drawn.sum() / (len(rows) * max_length)),
    }
    return {"views": views, "padding_percent": {name: round(float(share), 1) for name, share in shares.items()}}


def padding(lengths: Sequence[int] | np.ndarray[Any, Any], batch: int) -> float:
    """Percent of what a device reads that is padding, when each batch is as long as its longest sample."""
    batches = [lengths[at : at + batch] for at in range(0, len(lengths), batch)]
    return float(100 * (1 - sum(map(sum, batches)) / sum(len(some) * max(some) for some in batches)))

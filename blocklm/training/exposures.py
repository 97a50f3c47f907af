"""Counts how often a training meets each definition of the repository.

Facts are learned after tens of exposures (Allen-Zhu and Li 2024, arXiv 2404.05405), so the count tells what a run can
have taught. A definition is met once by each sample read whose prompt or completion has its name as a word, as far as
the model reads it: what was cut does not count.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from blocklm.training.data_order import TrainingOrder
from blocklm.training.exposure_target import WORD

ROWS_AT_ONCE = 1000
QUANTILES = (10, 50, 90)


def count_exposures(
    reading: TrainingOrder, names: Collection[str], tokenizer: PreTrainedTokenizerBase, target: int | None = None
) -> dict[str, Any] | None:
    """Count how often the rows of a training meet each name, from the first step to the last.

    Returns:
        The number of `definitions`, percentiles of how often they are met, such as `p50`, `never_met`, the share of
        them that no row has, 0 to 1, and `target` with `reached`, the share that is met so often; None without names.
    """
    if not names:
        return None
    wanted, met = frozenset(names), Counter[str]()
    times = np.bincount(reading.order, minlength=len(reading.dataset))
    for row, text in _texts(reading, np.flatnonzero(times).tolist(), tokenizer):
        found = wanted.intersection(WORD.findall(text))
        met.update(dict.fromkeys(found, int(times[row])))
    counts = [met[name] for name in sorted(wanted)]
    return {
        "definitions": len(counts),
        **{f"p{rank}": float(np.percentile(counts, rank)) for rank in QUANTILES},
        "never_met": round(counts.count(0) / len(counts), 4),
        "target": target,
        "reached": None if target is None else round(sum(count >= target for count in counts) / len(counts), 4),
    }


def _texts(reading: TrainingOrder, rows: list[int], tokenizer: PreTrainedTokenizerBase) -> Iterator[tuple[int, str]]:
    """Yield the text of each sample of some rows, with the row; a packed row has several samples."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        columns = reading.dataset.select(part)[:]
        lengths = columns.get("seq_lengths") or [[len(ids)] for ids in columns["input_ids"]]
        places, samples = list[int](), list[list[int]]()
        for row, ids, sizes in zip(part, columns["input_ids"], lengths, strict=True):
            for first, end in pairwise(accumulate(sizes, initial=0)):
                places.append(row)
                samples.append(ids[first:end])
        yield from zip(places, tokenizer.batch_decode(samples), strict=True)

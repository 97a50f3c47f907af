"""Reports the lengths of samples in tokens, and the share of padding in batches."""

from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any

import numpy as np

from blocklm.training.token_counts import TokenCounts

SEED = 0
PACKED_TOGETHER = 1000  # samples; TRL packs so many at a time


def length_report(counts: TokenCounts, max_length: int, batch: int) -> dict[str, Any]:
    """Report tokens by view and the padding in batches of `batch` samples.

    Returns:
        `views`: for each view its number of samples, estimated sum and percentiles of their tokens, and the percent
            that is trimmed and the percent that is too long.
        `padding_percent`: percent of padding in random order, in batches of similar lengths, and when packed into rows
            of `max_length`.
    """
    views, lengths = {}, []
    for view, number in counts.samples.items():
        tokens, trimmed, too_long = counts.lengths_within(view, max_length)
        lengths.append(tokens)
        views[view] = {
            "samples": number,
            "tokens": round(float(tokens.mean()) * number) if len(tokens) else 0,
            **{f"p{rank}": int(np.percentile(tokens, rank)) if len(tokens) else 0 for rank in (50, 90, 99)},
            "trimmed_percent": round(100 * trimmed / max(1, len(tokens)), 1),
            "too_long_percent": round(100 * too_long / (len(tokens) + too_long), 1),
        }
    shuffled = np.random.default_rng(SEED).permutation(np.concatenate(lengths))
    shares = {
        "any order": padding(shuffled, batch),
        "like lengths": padding(np.sort(shuffled), batch),
        "packed": 100 * (1 - shuffled.sum() / (packed_rows(shuffled.tolist(), max_length) * max_length)),
    }
    return {"views": views, "padding_percent": {name: round(float(share), 1) for name, share in shares.items()}}


def padding(lengths: Sequence[int] | np.ndarray[Any, Any], batch: int) -> float:
    """Percent of padding in batches that are each as long as their longest sample."""
    batches = [lengths[start : start + batch] for start in range(0, len(lengths), batch)]
    return float(100 * (1 - sum(map(sum, batches)) / sum(len(samples) * max(samples) for samples in batches)))


def packed_rows(lengths: Sequence[int], max_length: int) -> int:
    """Count the rows of `max_length` tokens into which TRL packs samples of these lengths: best fit, longest first."""
    rows = 0
    for start in range(0, len(lengths), PACKED_TOGETHER):
        free: list[int] = []  # tokens left in each row, the fewest first
        for length in sorted(lengths[start : start + PACKED_TOGETHER], reverse=True):
            fitting = bisect_left(free, length)
            left = free.pop(fitting) if fitting < len(free) else max_length
            insort(free, left - length)
        rows += len(free)
    return rows

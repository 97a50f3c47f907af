"""Hashes runs of tokens, to find verbatim repetition of one text in another."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPAN = 50  # tokens of a run, as in Carlini et al. 2023

Hashes = NDArray[np.uint64]


def span_hashes(ids: Sequence[int]) -> Hashes:
    """Hash each run of `SPAN` consecutive tokens."""
    count = len(ids) - SPAN + 1
    if count < 1:
        return np.empty(0, np.uint64)
    tokens, hashes = np.asarray(ids, np.uint64) + np.uint64(1), np.zeros(count, np.uint64)
    for offset in range(SPAN):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + tokens[offset : offset + count]
    return hashes

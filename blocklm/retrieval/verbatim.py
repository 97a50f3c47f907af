"""Runs of tokens by which a text is found to stand in another word for word."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPAN = 50  # tokens in a row, as in Carlini et al. 2023

Hashes = NDArray[np.uint64]


def span_hashes(ids: Sequence[int]) -> Hashes:
    """A hash of each run of `SPAN` tokens."""
    count = len(ids) - SPAN + 1
    if count < 1:
        return np.empty(0, np.uint64)
    tokens, hashes = np.asarray(ids, np.uint64) + np.uint64(1), np.zeros(count, np.uint64)
    for at in range(SPAN):
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + tokens[at : at + count]
    return hashes

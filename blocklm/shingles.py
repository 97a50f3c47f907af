"""Texts as sets of hashed five-token shingles, and MinHash bands that bring similar ones together.

A near-duplicate is a text whose Jaccard index with another is at least 0.7 on token 5-grams, as in Allamanis 2019
(arXiv 1812.06469) and Giagnorio et al. 2025 (arXiv 2503.14201). MinHash only proposes pairs; the index itself decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import rensa
from numpy.typing import NDArray

SHINGLE_TOKENS = 5
MIN_JACCARD = 0.7
# At a Jaccard index of 0.7, 20 bands of 4 rows bring 99.6 % of the pairs together; of 0.3, 15 %.
BANDS, ROWS = 20, 4
SEED = 42
CHUNK_BYTES = 1 << 22  # bounds the arrays, which take some fifty bytes for each of the text

Hashes = NDArray[np.uint64]
SPACE, WORD, MARK = 0, 1, 2


def _classes() -> NDArray[np.uint8]:
    """The class of each byte: every mark is a token of its own, bytes beyond ASCII belong to words."""
    classes = np.full(256, MARK, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            classes[byte] = WORD
        elif byte <= ord(" "):
            classes[byte] = SPACE
    return classes


CLASS = _classes()
_ODD = np.random.Generator(np.random.PCG64(SEED)).integers(1, 1 << 63, 64 + SHINGLE_TOKENS, np.uint64) | np.uint64(1)
PLACE, TURN = _ODD[:64], _ODD[64:]  # multipliers for a byte's place in its token, and a token's in its shingle


class Shingled:
    """The shingles of many texts.

    Args:
        texts: what to compare; one of fewer than five tokens is similar to none.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        pieces = list(_shingle(texts))
        self._hashes = np.concatenate([hashes for hashes, _ in pieces]) if pieces else np.empty(0, np.uint64)
        sizes = np.concatenate([sizes for _, sizes in pieces]) if pieces else np.empty(0, np.int64)
        self._edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
        self._bands = self._sign()
        self._set = lru_cache(maxsize=1 << 14)(self._distinct)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def jaccard(self, one: int, other: int) -> float:
        """The Jaccard index of two texts."""
        here, there = self._set(one), self._set(other)
        both = len(np.intersect1d(here, there, assume_unique=True))
        return both / max(1, len(here) + len(there) - both)

    def newer_duplicates(self) -> dict[int, int]:
        """Map each text that a later one repeats to that one; the last of similar texts is not in the map.

        A text is compared with those that are kept only, so that a chain of small changes does not end as one text.
        """
        kept: dict[int, list[int]] = defaultdict(list)
        repeated: dict[int, int] = {}
        for text in range(len(self) - 1, -1, -1):
            near = self._first_similar(text, kept)
            if near is not None:
                repeated[text] = near
            else:
                self._enter(text, kept)
        return repeated

    def similar(self, probes: Iterable[int], others: Iterable[int]) -> set[int]:
        """Those of `probes` that are near-duplicates of at least one of `others`."""
        index: dict[int, list[int]] = defaultdict(list)
        for text in others:
            self._enter(text, index)
        return {text for text in probes if self._first_similar(text, index) is not None}

    def _first_similar(self, text: int, index: dict[int, list[int]]) -> int | None:
        seen: set[int] = set()
        for key in self._bands[text]:
            for other in index.get(key, ()):
                if other not in seen:
                    seen.add(other)
                    if self.jaccard(text, other) >= MIN_JACCARD:
                        return other
        return None

    def _enter(self, text: int, index: dict[int, list[int]]) -> None:
        for key in self._bands[text]:
            index[key].append(text)

    def _distinct(self, text: int) -> Hashes:
        return np.unique(self._hashes[int(self._edges[text]) : int(self._edges[text + 1])])

    def _sign(self) -> list[list[int]]:
        """For each text the keys of the bands in which it meets another; most texts meet none."""
        if not len(self):
            return []
        digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(self._hashes, self._edges, BANDS * ROWS, SEED)
        rows = np.array(digests.to_rows(), np.uint64).reshape(len(self), BANDS, ROWS)
        keys = (rows * TURN[:ROWS]).sum(axis=2, dtype=np.uint64)
        some = np.flatnonzero(np.diff(self._edges))
        meetings: list[list[int]] = [[] for _ in range(len(self))]
        for band in range(BANDS):
            _, place, count = np.unique(keys[some, band], return_inverse=True, return_counts=True)
            for at in np.flatnonzero(count[place] > 1):
                meetings[some[at]].append(int(place[at]) * BANDS + band)
        return meetings


def _shingle(texts: Sequence[str]) -> Iterator[tuple[Hashes, NDArray[np.int64]]]:
    """Yield, for some texts at a time, their shingles one after the other and how many each has."""
    chunk: list[bytes] = []
    size = 0
    for text in texts:
        chunk.append(text.encode("utf-8", "surrogatepass") + b"\n")
        size += len(chunk[-1])
        if size >= CHUNK_BYTES:
            yield _shingle_chunk(chunk)
            chunk, size = [], 0
    if chunk:
        yield _shingle_chunk(chunk)


def _shingle_chunk(chunk: list[bytes]) -> tuple[Hashes, NDArray[np.int64]]:
    starts, tokens = _tokens(np.frombuffer(b"".join(chunk), np.uint8))
    ends = np.searchsorted(starts, np.cumsum([len(text) for text in chunk]))
    counts = np.diff(ends, prepend=0)
    sizes = np.maximum(counts - (SHINGLE_TOKENS - 1), 0)
    if len(tokens) < SHINGLE_TOKENS:
        return np.empty(0, np.uint64), sizes
    windows = len(tokens) - (SHINGLE_TOKENS - 1)
    hashes = np.zeros(windows, np.uint64)
    for turn in range(SHINGLE_TOKENS):
        hashes += tokens[turn : turn + windows] * TURN[turn]
    of_text = np.repeat(np.arange(len(chunk)), counts)
    within = of_text[:windows] == of_text[SHINGLE_TOKENS - 1 :]
    return _mixed(hashes[within]), sizes


def _tokens(content: NDArray[np.uint8]) -> tuple[NDArray[np.int64], Hashes]:
    """Where each token starts, and its hash."""
    classes = CLASS[content]
    inside = (classes == WORD) & (np.concatenate(([SPACE], classes[:-1])) == WORD)
    begins = (classes != SPACE) & ~inside
    starts = np.flatnonzero(begins)
    if not len(starts):
        return starts, np.empty(0, np.uint64)
    place = np.arange(len(content)) - starts[np.maximum(np.cumsum(begins) - 1, 0)]
    parts = (content.astype(np.uint64) + np.uint64(1)) * PLACE[place % len(PLACE)]
    parts[classes == SPACE] = 0
    return starts, _mixed(np.add.reduceat(parts, starts))


def _mixed(hashes: Hashes) -> Hashes:
    """Spread what differs over all bits (the finaliser of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))

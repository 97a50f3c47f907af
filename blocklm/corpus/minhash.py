"""Finds near-duplicate texts: sets of hashed five-token shingles, and MinHash bands that bring similar ones together.

A near-duplicate is a text whose Jaccard index with another is at least 0.7 on token 5-grams, as in Allamanis 2019
(arXiv 1812.06469) and Giagnorio et al. 2025 (arXiv 2503.14201). MinHash only proposes pairs; the index itself decides.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import rensa
from numpy.typing import NDArray

SHINGLE_TOKENS = 5
MIN_JACCARD = 0.7
# At a Jaccard index of 0.7, 20 bands of 4 rows bring 99.6 % of the pairs together; of 0.3, 15 %.
BANDS, ROWS = 20, 4
SEED = 42
CHUNK_CHARS = 1 << 17  # arrays take some forty bytes a character, and should stay in the processor's cache

Hashes = NDArray[np.uint64]
Sizes = NDArray[np.int64]
SPACE, WORD, MARK = 0, 1, 2


def _classify_bytes() -> NDArray[np.uint8]:
    """Classify each byte: every mark is a token of its own, bytes beyond ASCII belong to words."""
    classes = np.full(256, MARK, np.uint8)
    for byte in range(256):
        if byte >= 128 or chr(byte).isalnum() or byte == ord("_"):
            classes[byte] = WORD
        elif byte <= ord(" "):
            classes[byte] = SPACE
    return classes


CLASS = _classify_bytes()
_ODD = np.random.Generator(np.random.PCG64(SEED)).integers(1, 1 << 63, 64 + SHINGLE_TOKENS, np.uint64) | np.uint64(1)
PLACE, TURN = _ODD[:64], _ODD[64:]  # multipliers for a byte's place in its token, and for a token's in its shingle
# What each byte adds to the hash of its token, by its place there; white space belongs to no token.
PART = PLACE[:, None] * np.where(CLASS == SPACE, 0, np.arange(1, 257)).astype(np.uint64)
_NONE = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, BANDS), np.uint64)


class ShingledTexts:
    """The shingles of many texts.

    Args:
        texts: texts to compare, referred to by index; a text of fewer than five tokens is similar to none.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        with ThreadPoolExecutor() as pool:  # NumPy lets other threads run
            pieces = list(pool.map(_hash_shingles, _chunks(texts)))
        hashes, sizes, keys = map(np.concatenate, zip(_NONE, *pieces, strict=True))
        self._hashes, self._edges = hashes, np.concatenate([[0], np.cumsum(sizes)])
        self._bands = _shared_bands(keys, sizes)
        self._set = lru_cache(maxsize=1 << 14)(self._distinct)

    def __len__(self) -> int:
        return len(self._edges) - 1

    def jaccard(self, text: int, other: int) -> float:
        """Compute the Jaccard index of two texts."""
        first, second = self._set(text), self._set(other)
        total = len(first) + len(second)
        merged = np.concatenate([first, second])
        merged.sort()
        shared = int(np.count_nonzero(merged[1:] == merged[:-1]))
        return shared / max(1, total - shared)

    def newer_duplicates(self) -> dict[int, int]:
        """Map each text to a later one that nearly repeats it; the last of similar texts is not in the map.

        A text is compared only with texts that are kept, so that a chain of small changes is not reduced to one text.
        """
        kept: dict[int, list[int]] = defaultdict(list)
        repeated: dict[int, int] = {}
        for text in range(len(self) - 1, -1, -1):
            near = self._first_similar(text, kept)
            if near is not None:
                repeated[text] = near
            else:
                self._add_to_index(text, kept)
        return repeated

    def similar(self, probes: Iterable[int], others: Iterable[int]) -> set[int]:
        """Find those of `probes` that are near-duplicates of at least one of `others`."""
        index: dict[int, list[int]] = defaultdict(list)
        for text in others:
            self._add_to_index(text, index)
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

    def _add_to_index(self, text: int, index: dict[int, list[int]]) -> None:
        for key in self._bands[text]:
            index[key].append(text)

    def _distinct(self, text: int) -> Hashes:
        hashes = np.sort(self._hashes[self._edges[text] : self._edges[text + 1]])
        first = np.ones(len(hashes), bool)
        first[1:] = hashes[1:] != hashes[:-1]
        distinct: Hashes = hashes[first]
        return distinct


def band_keys(texts: Iterable[str]) -> tuple[Hashes, Sizes]:
    """Hash the bands of texts, of which no more than a chunk is held in memory.

    Returns:
        The keys, of shape (texts, `BANDS`), and the number of shingles of each text; similar texts share a key in a
        column.
    """
    pieces = [(keys, sizes) for _, sizes, keys in map(_hash_shingles, _chunks(texts))]
    keys, sizes = zip(*[(_NONE[2], _NONE[1]), *pieces], strict=True)
    return np.concatenate(keys), np.concatenate(sizes)


def _chunks(texts: Iterable[str]) -> Iterator[Sequence[str]]:
    """Yield consecutive texts in groups of about `CHUNK_CHARS` characters."""
    chunk, size = list[str](), 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _hash_shingles(texts: Sequence[str]) -> tuple[Hashes, Sizes, Hashes]:
    """Hash the shingles of texts.

    Returns:
        All hashes in order, the number of hashes per text, and the keys of each text's bands.
    """
    chunk = [text.encode("utf-8", "surrogatepass") + b"\n" for text in texts]
    starts, tokens = _hash_tokens(np.frombuffer(b"".join(chunk), np.uint8))
    ends = np.searchsorted(starts, np.cumsum([len(text) for text in chunk]))
    counts = np.diff(ends, prepend=0)
    windows = max(0, len(tokens) - (SHINGLE_TOKENS - 1))
    hashes = np.zeros(windows, np.uint64)
    for turn in range(SHINGLE_TOKENS):
        hashes += tokens[turn : turn + windows] * TURN[turn]
    of_text = np.repeat(np.arange(len(chunk)), counts)
    within = of_text[:windows] == of_text[len(tokens) - windows :]
    hashes, sizes = _mix_bits(hashes[within]), np.maximum(counts - (SHINGLE_TOKENS - 1), 0)
    edges = np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)
    digests = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes, edges, BANDS * ROWS, SEED)
    rows = np.array(digests.to_rows(), np.uint64).reshape(len(chunk), BANDS, ROWS)
    return hashes, sizes, (rows * TURN[:ROWS]).sum(axis=2, dtype=np.uint64)


def _shared_bands(keys: Hashes, sizes: Sizes) -> list[list[int]]:
    """List for each text the keys of the bands that it shares with another text; most texts share none."""
    shingled = np.flatnonzero(sizes)
    shared: list[list[int]] = [[] for _ in sizes]
    for band in range(BANDS):
        _, value, count = np.unique(keys[shingled, band], return_inverse=True, return_counts=True)
        for index in np.flatnonzero(count[value] > 1):
            shared[shingled[index]].append(int(value[index]) * BANDS + band)
    return shared


def _hash_tokens(content: NDArray[np.uint8]) -> tuple[Sizes, Hashes]:
    """Split bytes into tokens; returns the start and the hash of each."""
    classes = CLASS[content]
    word, begins = classes == WORD, classes != SPACE
    begins[1:] &= ~(word[1:] & word[:-1])
    starts = np.flatnonzero(begins)
    if not len(starts):
        return starts, np.empty(0, np.uint64)
    first = starts[0]
    place = np.arange(first, len(content)) - np.repeat(starts, np.diff(starts, append=len(content)))
    parts = PART[place & (len(PLACE) - 1), content[first:]]
    return starts, _mix_bits(np.add.reduceat(parts, starts - first))


def _mix_bits(hashes: Hashes) -> Hashes:
    """Spread the differences between hashes over all bits (the finaliser of SplitMix64)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))

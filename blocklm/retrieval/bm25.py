"""BM25 over the lower-case parts of identifiers, and over pairs of characters in scripts without spaces."""

import math
import re
import unicodedata
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import bm25s
import numpy as np
from numpy.typing import NDArray

# `parseHTTPHeader_v2` is parse, http, header, v2: runs of capitals end before the last one if a small letter follows.
PART = re.compile(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+")
# Chinese, Japanese and Korean, and the scripts from Thai to Khmer: without spaces a clause would be one word.
SPACELESS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecf\u0edc-\u0edf\u0f40-\u0fbc\u1000-\u103f\u1050-\u109d\u1100-\u11ff\u1780-\u17d3"
    "\u1950-\u19df\u1a20-\u1a7c\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b\u303c\u3041-\u3096\u3099-\u309f"
    "\u30a1-\u30fa\u30fc-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaadf"
    "\uac00-\ud7ff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
WORD = re.compile(rf"[{SPACELESS}]+|[^\W{SPACELESS}]+")
SPACELESS_RUN = re.compile(f"[{SPACELESS}]")
NO_WORD = "-"  # stands for a document without words, which bm25s refuses


def terms(text: str) -> list[str]:
    """Split a text into lower-case terms: the parts of identifiers, and each identifier of several parts itself.

    In a script without spaces each pair of neighbouring characters is a term, or a single character between others.
    """
    result = []
    for word in WORD.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)):
        if SPACELESS_RUN.match(word):
            result += [word[start : start + 2] for start in range(max(1, len(word) - 1))]
            continue
        parts = PART.findall(word)
        result += [part.lower() for part in parts]
        if len(parts) != 1 or not word.isascii():
            result.append(word.lower())
    return result


class WordIndex:
    """Documents, numbered from 0, that can be searched by their words.

    Args:
        index: bm25s index of the documents; None without documents.
        size: number of documents.
    """

    def __init__(self, index: bm25s.BM25 | None, size: int) -> None:
        self._index, self._size = index, size

    @classmethod
    def build(cls, texts: Iterable[str]) -> Self:
        """Index texts; words become numbers at once, because a long history's words would not fit into memory."""
        numbers: dict[str, int] = {}
        tokens = [
            array("I", [numbers.setdefault(term, len(numbers)) for term in terms(text) or [NO_WORD]]) for text in texts
        ]
        if not tokens:
            return cls(None, 0)
        index = bm25s.BM25()
        index.index((tokens, numbers), show_progress=False)
        return cls(index, len(tokens))

    @classmethod
    def load(cls, folder: Path, size: int) -> Self:
        """Map a saved index into memory; a damaged one raises one of `blocklm.cache.DAMAGED`."""
        return cls(bm25s.BM25.load(folder, mmap=True), size)

    def save(self, folder: Path) -> None:
        """Save the index, which must have documents."""
        assert self._index is not None, "there are documents"
        self._index.save(folder, show_progress=False)

    def scores(self, question: str, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Score each document; 0 if it shares no word with the question, or is not allowed.

        Args:
            question: text to search for.
            allowed: mask of the documents that may be found; default: all.
        """
        words = sorted(set(terms(question)))
        if not words or self._index is None:  # bm25s refuses both
            return np.zeros(self._size, np.float32)
        scores: NDArray[np.float32] = self._index.get_scores(words, weight_mask=allowed)
        return scores

    def rarity(self, word: str) -> float:
        """Return BM25's inverse document frequency of a word; it is largest for a word in no document."""
        frequency = 0
        if self._index is not None and (token := self._index.vocab_dict.get(word)) is not None:
            offsets = self._index.scores["indptr"]
            frequency = int(offsets[token + 1] - offsets[token])
        return math.log(1 + (self._size - frequency + 0.5) / (frequency + 0.5))

    @property
    def nbytes(self) -> int:
        """Size of the index in memory, in bytes."""
        parts = () if self._index is None else (self._index.scores[part] for part in ("data", "indices", "indptr"))
        return sum(int(part.nbytes) for part in parts)

"""Keeps held-out text out of training: finds equal lines, measures leakage, detects held-out hunks in files."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blocklm.corpus.candidates import CandidateHunk, LandingOrder
from blocklm.corpus.minhash import ShingledTexts
from blocklm.corpus.sample_weights import long_lines

MIN_LINE_CHARS = 20  # shorter lines are alike by accident
SEED = 42
SHARE, MIN_LINES = 0.7, 3  # a file with this share of a held-out hunk's lines, and this many, gives the hunk away

Mask = NDArray[np.bool_]


class Lines:
    """The lines of many texts, equal lines under one number, for repeated comparisons.

    Args:
        texts: texts to compare; masks and results refer to them by index.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        lines = chain.from_iterable(text.split("\n") for text in texts)
        self._number = np.fromiter(map(numbers.__getitem__, map(str.strip, lines)), np.int64)
        self._chars = np.fromiter(map(len, numbers), np.int64, len(numbers))
        self._text = np.repeat(np.arange(len(texts)), [text.count("\n") + 1 for text in texts])

    def find_repeated(self, training: Mask, held_out: Mask, min_chars: int) -> tuple[NDArray[np.int64], Mask]:
        """Find the lines of held-out texts that also occur in training texts.

        Args:
            training: which texts train.
            held_out: which texts are held out.
            min_chars: characters of the shortest line that is compared.

        Returns:
            For each line of the held-out texts that is long enough: the index of its text, and whether it occurs in
            a training text.
        """
        known = np.zeros(len(self._chars), bool)
        known[self._number[training[self._text]]] = True
        lines = np.flatnonzero(held_out[self._text] & (self._chars[self._number] >= min_chars))
        return self._text[lines], known[self._number[lines]]


def leakage_report(
    hunks: Sequence[CandidateHunk],
    lines: Lines,
    shingled: ShingledTexts,
    compared: Sequence[CandidateHunk],
    history: LandingOrder,
) -> dict[str, Any]:
    """Measure how much of test also occurs in train: near-duplicate bytes and verbatim lines, in percent.

    Args:
        hunks: all hunks with their splits and reasons.
        lines: lines of `hunks`.
        shingled: shingles of `compared`.
        compared: hunks long enough to compare.
        history: landing of each commit.

    Returns:
        Both percentages for the split in use, for the same split before duplicates and leaks were removed, and for a
        random split of the same commits with the same share of test.
    """
    shuffled = sorted({history.positions[hunk.seq] for hunk in hunks if hunk.split})
    tests = {history.positions[hunk.seq] for hunk in hunks if hunk.split == "test"}
    drawn = set(random.Random(SEED).sample(shuffled, len(tests)))

    def kept(hunk: CandidateHunk) -> str | None:
        return hunk.split if hunk.reason is None else None

    def before(hunk: CandidateHunk) -> str | None:
        return hunk.split if hunk.reason in (None, "near_duplicate", "leak", "duplicate") else None

    def at_random(hunk: CandidateHunk) -> str | None:
        return None if before(hunk) is None else "test" if history.positions[hunk.seq] in drawn else "train"

    splits = {"split": kept, "before_removal": before, "random_split": at_random}
    return {
        name: {
            "near_duplicate_bytes_percent": _near_duplicate_percent(
                shingled, [split_of(hunk) for hunk in compared], compared
            ),
            "verbatim_lines_percent": _verbatim_percent([split_of(hunk) for hunk in hunks], lines),
        }
        for name, split_of in splits.items()
    }


def _near_duplicate_percent(
    shingled: ShingledTexts, parts: Sequence[str | None], compared: Sequence[CandidateHunk]
) -> float:
    train, test = ([index for index, part in enumerate(parts) if part == name] for name in ("train", "test"))
    near = shingled.similar(test, train)
    near_bytes, test_bytes = (sum(len(compared[index].text.encode()) for index in group) for group in (near, test))
    return round(100 * near_bytes / max(1, test_bytes), 2)


def _verbatim_percent(parts: Sequence[str | None], lines: Lines) -> float:
    train, test = (np.array([part == name for part in parts]) for name in ("train", "test"))
    _, seen = lines.find_repeated(train, test, MIN_LINE_CHARS)
    return round(100 * int(seen.sum()) / max(1, len(seen)), 2)


class HeldOutLines:
    """The added lines of validation and test, to keep files that contain them out of training."""

    def __init__(self) -> None:
        self._hunks_with: defaultdict[str, list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def add(self, lines: Sequence[str]) -> None:
        """Add the lines of one held-out hunk, with the marks of a unified diff."""
        added = set(long_lines(lines))
        for line in added:
            self._hunks_with[line].append(len(self._sizes))
        self._sizes.append(len(added))

    def known_lines(self, text: str) -> frozenset[str]:
        """Find the lines of a file that belong to held-out hunks of which the file contains most."""
        lines = {line.strip() for line in text.split("\n")}
        counts = Counter(hunk for line in lines for hunk in self._hunks_with.get(line, ()))
        known = {hunk for hunk, count in counts.items() if count >= max(MIN_LINES, SHARE * self._sizes[hunk])}
        return frozenset(line for line in lines if known.intersection(self._hunks_with.get(line, ())))


def gives_away(piece: str, known: frozenset[str]) -> bool:
    """Whether a piece of a file contains enough held-out lines to reveal a held-out hunk."""
    return sum(line.strip() in known for line in piece.split("\n")) >= MIN_LINES

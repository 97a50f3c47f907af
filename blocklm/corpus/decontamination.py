"""What keeps held-out text out of training: lines word for word, a report of what leaks, and files that hold what is asked."""

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
SHARE, MIN_LINES = 0.7, 3  # of the lines of a held-out hunk that a file holds, to give it away

Chosen = NDArray[np.bool_]


class Lines:
    """The lines of many texts, equal ones under one number, so that texts can be compared again and again.

    Args:
        texts: what to compare; where a text is chosen below, it is by its place here.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        lines = chain.from_iterable(text.split("\n") for text in texts)
        self._number = np.fromiter(map(numbers.__getitem__, map(str.strip, lines)), np.int64)
        self._chars = np.fromiter(map(len, numbers), np.int64, len(numbers))
        self._text = np.repeat(np.arange(len(texts)), [text.count("\n") + 1 for text in texts])

    def standing_in(self, taught: Chosen, asked: Chosen, min_chars: int) -> tuple[NDArray[np.int64], Chosen]:
        """For each line of the texts asked that is not too short: its text, and whether it stands in a text taught."""
        known = np.zeros(len(self._chars), bool)
        known[self._number[taught[self._text]]] = True
        lines = np.flatnonzero(asked[self._text] & (self._chars[self._number] >= min_chars))
        return self._text[lines], known[self._number[lines]]


def leakage_report(
    units: Sequence[CandidateHunk],
    lines: Lines,
    shingled: ShingledTexts,
    compared: Sequence[CandidateHunk],
    history: LandingOrder,
) -> dict[str, Any]:
    """Percent of test's bytes that are near-duplicates of train's, and of its lines that stand in train word for word.

    Args:
        units: all hunks with their splits and reasons.
        lines: the lines of `units`.
        shingled: the shingles of `compared`.
        compared: the hunks long enough to compare.
        history: where each commit landed.

    Returns:
        The two numbers for the split in use, for the same split before near-duplicates and leaks were taken out, and for a
        random split of the same commits with the same share of test.
    """
    shuffled = sorted({history.positions[unit.seq] for unit in units if unit.split})
    tests = {history.positions[unit.seq] for unit in units if unit.split == "test"}
    drawn = set(random.Random(SEED).sample(shuffled, len(tests)))

    def kept(unit: CandidateHunk) -> str | None:
        return unit.split if unit.reason is None else None

    def before(unit: CandidateHunk) -> str | None:
        return unit.split if unit.reason in (None, "near_duplicate", "leak", "duplicate") else None

    def at_random(unit: CandidateHunk) -> str | None:
        return None if before(unit) is None else "test" if history.positions[unit.seq] in drawn else "train"

    splits = {"split": kept, "before_removal": before, "random_split": at_random}
    return {
        name: {
            "near_duplicate_bytes_percent": _near_bytes(shingled, [of(unit) for unit in compared], compared),
            "verbatim_lines_percent": _verbatim_lines([of(unit) for unit in units], lines),
        }
        for name, of in splits.items()
    }


def _near_bytes(shingled: ShingledTexts, parts: Sequence[str | None], compared: Sequence[CandidateHunk]) -> float:
    train, test = ([at for at, part in enumerate(parts) if part == name] for name in ("train", "test"))
    near = shingled.similar(test, train)
    near_bytes, test_bytes = (sum(len(compared[at].text.encode()) for at in some) for some in (near, test))
    return round(100 * near_bytes / max(1, test_bytes), 2)


def _verbatim_lines(parts: Sequence[str | None], lines: Lines) -> float:
    train, test = (np.array([part == name for part in parts]) for name in ("train", "test"))
    _, seen = lines.standing_in(train, test, MIN_LINE_CHARS)
    return round(100 * int(seen.sum()) / max(1, len(seen)), 2)


class HeldOutLines:
    """The added lines of what validation and test ask."""

    def __init__(self) -> None:
        self._asked_in: defaultdict[str, list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def add(self, lines: Sequence[str]) -> None:
        """Remember one hunk that is asked."""
        telling = set(long_lines(lines))
        for line in telling:
            self._asked_in[line].append(len(self._sizes))
        self._sizes.append(len(telling))

    def known_lines(self, text: str) -> frozenset[str]:
        """The lines of those asked hunks of which a whole file holds most."""
        here = {line.strip() for line in text.split("\n")}
        found = Counter(hunk for line in here for hunk in self._asked_in.get(line, ()))
        known = {hunk for hunk, count in found.items() if count >= max(MIN_LINES, SHARE * self._sizes[hunk])}
        return frozenset(line for line in here if known.intersection(self._asked_in.get(line, ())))


def gives_away(piece: str, known: frozenset[str]) -> bool:
    """Whether a piece of a file holds enough of what is asked of it."""
    return sum(line.strip() in known for line in piece.split("\n")) >= MIN_LINES

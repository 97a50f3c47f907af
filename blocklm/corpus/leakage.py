"""How much of what the exam asks was taught: against what a random split of the same hunks would have leaked."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from blocklm.corpus.candidates import Landings, Unit
from blocklm.corpus.minhash import Shingled
from blocklm.corpus.verbatim import Lines

MIN_LINE_CHARS = 20  # shorter lines are alike by accident
SEED = 42


def leakage_report(
    units: Sequence[Unit], lines: Lines, shingled: Shingled, compared: Sequence[Unit], history: Landings
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

    def kept(unit: Unit) -> str | None:
        return unit.split if unit.reason is None else None

    def before(unit: Unit) -> str | None:
        return unit.split if unit.reason in (None, "near_duplicate", "leak", "duplicate") else None

    def at_random(unit: Unit) -> str | None:
        return None if before(unit) is None else "test" if history.positions[unit.seq] in drawn else "train"

    splits = {"split": kept, "before_removal": before, "random_split": at_random}
    return {
        name: {
            "near_duplicate_bytes_percent": _near_bytes(shingled, [of(unit) for unit in compared], compared),
            "verbatim_lines_percent": _verbatim_lines([of(unit) for unit in units], lines),
        }
        for name, of in splits.items()
    }


def _near_bytes(shingled: Shingled, parts: Sequence[str | None], compared: Sequence[Unit]) -> float:
    train, test = ([at for at, part in enumerate(parts) if part == name] for name in ("train", "test"))
    near = shingled.similar(test, train)
    near_bytes, test_bytes = (sum(len(compared[at].text.encode()) for at in some) for some in (near, test))
    return round(100 * near_bytes / max(1, test_bytes), 2)


def _verbatim_lines(parts: Sequence[str | None], lines: Lines) -> float:
    train, test = (np.array([part == name for part in parts]) for name in ("train", "test"))
    _, seen = lines.standing_in(train, test, MIN_LINE_CHARS)
    return round(100 * int(seen.sum()) / max(1, len(seen)), 2)

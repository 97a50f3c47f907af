"""Which hunk a later commit repaired: by lines of it that a fix removes soon after, or by a revert that says why."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from blocklm.mining.messages import says_something

FIX = re.compile(
    r"\b(fix(es|ed)?|bugs?|regress\w*|broken|breaks?|wrong\w*|incorrect\w*|crash\w*|panics?|typo)\b", re.I
)
REVERT_SUBJECT = re.compile(r'^Revert "|^This reverts commit|^\(cherry picked from')
MAX_DAYS = 90.0
MIN_LINE_CHARS = 20


class FixLinker:
    """Told every hunk that trains, oldest first, it finds those that repair an earlier one."""

    def __init__(self) -> None:
        self._added: dict[tuple[str, str], tuple[int, str, float]] = {}

    def origin(self, hunk: int, commit: str, day: float, path: str, message: str, lines: Sequence[str]) -> int | None:
        """The earlier hunk that this one repairs: the one most of whose lines it removes; None if it is no repair.

        Args:
            hunk: by which this one is to be known.
            commit: its commit.
            day: when it landed.
            path: its file.
            message: what its commit says.
            lines: its lines, with the marks of a unified diff.
        """
        found = None
        if FIX.search(message.partition("\n")[0]) and says_something(message):
            origins = Counter(self._origins(commit, day, path, lines))
            found = origins.most_common(1)[0][0] if origins else None
        for text in _telling(lines, "+"):
            self._added[path, text] = hunk, commit, day
        return found

    def _origins(self, commit: str, day: float, path: str, lines: Sequence[str]) -> Iterator[int]:
        for text in _telling(lines, "-"):
            hunk, other, then = self._added.get((path, text), (-1, commit, 0.0))
            if other != commit and day - then <= MAX_DAYS:
                yield hunk


def reason_of_revert(message: str) -> str:
    """What a revert says beyond that it is one; empty if nothing."""
    said = [line for line in message.splitlines() if line.strip() and not REVERT_SUBJECT.match(line)]
    return " ".join(said) if len(" ".join(said).split()) >= 3 else ""


def _telling(lines: Sequence[str], mark: str) -> list[str]:
    return [text for line in lines if line[:1] == mark and len(text := line[1:].strip()) >= MIN_LINE_CHARS]

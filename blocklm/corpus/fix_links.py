"""Links fixes to the hunks they repair: a fix soon removes lines of the hunk, or a revert says why it reverts it."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from blocklm.mining.filters import REVERTED_COMMIT
from blocklm.mining.messages import says_something

FIX = re.compile(
    r"\b(fix(es|ed)?|bugs?|regress\w*|broken|breaks?|wrong\w*|incorrect\w*|crash\w*|panics?|typo)\b", re.I
)
REVERT_SUBJECT = re.compile(r'^Revert "|^This reverts commit|^\(cherry picked from')
MAX_DAYS = 90.0
MIN_LINE_CHARS = 20


class FixLinker:
    """Finds the training hunks that repair an earlier one; hunks must be passed oldest first."""

    def __init__(self) -> None:
        self._added: dict[tuple[str, str], tuple[int, str, float]] = {}

    def origin(self, hunk: int, commit: str, day: float, path: str, message: str, lines: Sequence[str]) -> int | None:
        """Find the earlier hunk that this one repairs: the one of which it removes most lines.

        Args:
            hunk: number of this hunk, returned for later repairs of it.
            commit: id of its commit.
            day: landing time in days.
            path: path of its file.
            message: message of its commit.
            lines: its lines, with the marks of a unified diff.

        Returns:
            The number of the repaired hunk, None if this hunk repairs none.
        """
        repaired = None
        if FIX.search(message.partition("\n")[0]) and says_something(message):
            origins = Counter(self._origins(commit, day, path, lines))
            repaired = origins.most_common(1)[0][0] if origins else None
        for text in _long_lines(lines, "+"):
            self._added[path, text] = hunk, commit, day
        return repaired

    def _origins(self, commit: str, day: float, path: str, lines: Sequence[str]) -> Iterator[int]:
        for text in _long_lines(lines, "-"):
            hunk, other, then = self._added.get((path, text), (-1, commit, 0.0))
            if other != commit and day - then <= MAX_DAYS:
                yield hunk


def reason_of_revert(message: str) -> str:
    """Extract the reason from a revert's message; empty if it gives none of at least three words."""
    reason = " ".join(line for line in message.splitlines() if line.strip() and not REVERT_SUBJECT.match(line))
    return reason if len(reason.split()) >= 3 else ""


def _long_lines(lines: Sequence[str], mark: str) -> list[str]:
    return [text for line in lines if line[:1] == mark and len(text := line[1:].strip()) >= MIN_LINE_CHARS]


def revert_reasons(table: pa.Table) -> dict[str, str]:
    """Collect the reasons that reverts give, by the id of the reverted commit."""
    messages = table.filter(pc.equal(pc.fill_null(table["drop_reason"], ""), "revert"))["message"].unique().to_pylist()
    reasons = {name: reason_of_revert(message) for message in messages for name in REVERTED_COMMIT.findall(message)}
    return {name: reason for name, reason in reasons.items() if reason}

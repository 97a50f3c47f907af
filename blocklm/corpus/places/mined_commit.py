"""A commit as it was mined, and what of it comes before a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from blocklm.corpus.places.recent_edits import CommitHunk
from blocklm.corpus.windows import Line
from blocklm.mining.hunks import hunks_of


@dataclass(frozen=True)
class MinedCommit:
    """A commit: its position in the history, and its rows of the changes dataset by their number."""

    seq: int
    rows: Mapping[int, Mapping[str, Any]]

    @cached_property
    def hunks(self) -> dict[int, list[list[Line] | None]]:
        """Mark and text of the lines of each hunk, by the number of the row; None for a hunk that a rule dropped."""
        found: dict[int, list[list[Line] | None]] = {}
        for number, row in self.rows.items():
            if row["drop_reason"] is None and row["path"] is not None:
                hunks = zip(hunks_of(row["diff"]), row["hunk_reasons"], strict=True)
                found[number] = [hunk.marked if reason is None else None for hunk, reason in hunks]
        return found

    def before(self, change: int, hunk: int) -> tuple[list[CommitHunk], list[CommitHunk]]:
        """Return the hunks above a hunk in its file, and those of the files before."""
        own, others = list[CommitHunk](), list[CommitHunk]()
        for number, hunks in self.hunks.items():
            path = self.rows[number]["path"]
            if number < change:
                others += [CommitHunk(path, lines) for lines in hunks if lines is not None]
            elif number == change:
                own = [CommitHunk(path, lines) for lines in hunks[:hunk] if lines is not None]
        return own, others

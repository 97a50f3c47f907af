"""Chooses the recent edits that are shown at a place: hunks that stand before it in its commit.

Git keeps no order within a commit. The hunks above a place in its own file come before it, and the hunks of the files
that the commit lists before its file, of which the most related are taken. A commit of a hundred files is no evidence
for an order, so at most a few are shown.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from blocklm.corpus.places.place import RecentEdit
from blocklm.corpus.windows import Line, windows

MAX_EDITS = 4
MAX_CANDIDATES = 50  # of other files; only the nearest in the commit's list are compared
NAME = re.compile(r"[A-Za-z_]\w{2,}")


@dataclass(frozen=True, slots=True)
class CommitHunk:
    """A hunk of a commit.

    Attributes:
        path: path of its file.
        lines: mark and text of each line.
    """

    path: str
    lines: Sequence[Line]


def recent_edits(
    own: Sequence[CommitHunk], others: Sequence[CommitHunk], near: str, relation: Mapping[str, float]
) -> list[RecentEdit]:
    """Choose at most four recent edits, the nearest last.

    Args:
        own: the hunks above the place in its file, in their order.
        others: hunks of other files that come before the place.
        near: text around the place.
        relation: how related each other file is to the place's file, 0 to 2.
    """
    edits = [edit for hunk in own[-MAX_EDITS:] if (edit := _edit(hunk)) is not None]
    if len(edits) == MAX_EDITS:
        return edits
    names = frozenset(NAME.findall(near))

    def score(hunk: CommitHunk) -> float:
        changed = frozenset(NAME.findall("\n".join(text for mark, text in hunk.lines if mark != " ")))
        return relation[hunk.path] + len(names & changed) / max(1, len(changed))

    ranked = sorted(others[-MAX_CANDIDATES:], key=score)
    most_related = (edit for hunk in reversed(ranked) if (edit := _edit(hunk)) is not None)
    more = list(islice(most_related, MAX_EDITS - len(edits)))
    return [*reversed(more), *edits]


def shared_folders(path: str, other: str) -> float:
    """Return the share of a path's folders that another path begins with, 0 to 1; 1 for a path without folders."""
    folders = path.split("/")[:-1]
    pairs = zip(folders, other.split("/")[:-1], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return shared / len(folders) if folders else 1.0


def _edit(hunk: CommitHunk) -> RecentEdit | None:
    """Word a hunk as its text before and after, of a long one the first window; None if it changes only blank lines."""
    first = next(windows(list(hunk.lines)), [])
    if not any(mark != " " and text.strip() for mark, text in first):
        return None
    original = "".join(f"{text}\n" for mark, text in first if mark != "+")
    return RecentEdit(hunk.path, original, "".join(f"{text}\n" for mark, text in first if mark != "-"))

"""Where each commit stands in the history's order: where the merge landed that brought it."""

from collections import Counter
from collections.abc import Sequence

# A branch that brings more than this many commits and this part of all is no pull request but a line of development.
MAX_GROUP_COMMITS, MAX_GROUP_PART = 3, 10


def landing_positions(commits: Sequence[tuple[str, Sequence[str]]]) -> list[int]:
    """The place of each commit's landing: its own, or that of the merge which brought it to its main line.

    Commits of one pull request so share a place, and a split between places cannot part them.

    Args:
        commits: name and parents of each, parents before children.
    """
    place = {sha: at for at, (sha, _) in enumerate(commits)}
    parents = [[place[parent] for parent in names if parent in place] for _, names in commits]
    has_child = {parent for some in parents for parent in some}
    landed: list[int | None] = [None] * len(commits)
    for tip in (at for at in range(len(commits) - 1, -1, -1) if at not in has_child):
        for merge in reversed(_main_line(tip, parents, landed)):
            _bring(merge, parents, landed)
    sizes = Counter(landed)
    limit = max(MAX_GROUP_COMMITS, len(commits) // MAX_GROUP_PART)
    return [at if where is None or sizes[where] > limit else where for at, where in enumerate(landed)]


def _main_line(tip: int, parents: list[list[int]], landed: list[int | None]) -> list[int]:
    """First parents from a tip back to a commit that already landed, newest first; they land by themselves."""
    line = []
    at: int | None = tip
    while at is not None and landed[at] is None:
        landed[at] = at
        line.append(at)
        at = parents[at][0] if parents[at] else None
    return line


def _bring(merge: int, parents: list[list[int]], landed: list[int | None]) -> None:
    """Let all that only this merge brought land with it."""
    waiting = parents[merge][1:]
    while waiting:
        at = waiting.pop()
        if landed[at] is None:
            landed[at] = merge
            waiting += parents[at]

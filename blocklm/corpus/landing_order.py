"""Computes the landing position of each commit: its own position, or that of the merge that brought it."""

from collections import Counter
from collections.abc import Sequence

# A branch of more than 3 commits and more than a tenth of all is a line of development rather than a pull request.
MAX_GROUP_COMMITS, MAX_GROUP_PART = 3, 10


def landing_positions(commits: Sequence[tuple[str, Sequence[str]]]) -> list[int]:
    """Compute the landing position of each commit: its own, or that of the merge that brought it to the main line.

    Commits of one pull request share a position, so a split between positions cannot separate them.

    Args:
        commits: id and parents of each commit, parents before children.
    """
    index = {sha: number for number, (sha, _) in enumerate(commits)}
    parents = [[index[parent] for parent in names if parent in index] for _, names in commits]
    has_child = {parent for own_parents in parents for parent in own_parents}
    landed: list[int | None] = [None] * len(commits)
    for tip in (commit for commit in range(len(commits) - 1, -1, -1) if commit not in has_child):
        for merge in reversed(_land_main_line(tip, parents, landed)):
            _land_merged_commits(merge, parents, landed)
    sizes = Counter(landed)
    limit = max(MAX_GROUP_COMMITS, len(commits) // MAX_GROUP_PART)
    return [
        commit if position is None or sizes[position] > limit else position for commit, position in enumerate(landed)
    ]


def _land_main_line(tip: int, parents: list[list[int]], landed: list[int | None]) -> list[int]:
    """Let the first parents of a tip land by themselves, back to one that already landed; returns them newest first."""
    line = []
    commit: int | None = tip
    while commit is not None and landed[commit] is None:
        landed[commit] = commit
        line.append(commit)
        commit = parents[commit][0] if parents[commit] else None
    return line


def _land_merged_commits(merge: int, parents: list[list[int]], landed: list[int | None]) -> None:
    """Let the commits that only this merge brought land with it."""
    waiting = parents[merge][1:]
    while waiting:
        commit = waiting.pop()
        if landed[commit] is None:
            landed[commit] = merge
            waiting += parents[commit]

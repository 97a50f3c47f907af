"""Estimates when each commit landed, so that one machine with a wrong clock does not move the commits of others.

A commit records the time of the machine that made it. Along first parents true times never fall. So the longest series
of times that never falls is trusted, and any other commit was made by a clock that was ahead or behind.
"""

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

DAY = 86_400
# A few first commits this long before all others, and by more than all others span, were made by a clock without a
# battery; most such clocks start in 1970 or 1980.
LOST_SECONDS = 3650 * DAY


def landing_times(changes: pa.Table) -> dict[int, int]:
    """The landing time of each commit, in seconds since 1970, by its `seq`; the times never fall.

    Args:
        changes: rows with `seq`, `commit`, `parents` and `commit_time`, all of a history or a part of it.
    """
    seqs, first = np.unique(changes["seq"].to_numpy(), return_index=True)
    commits = changes.select(["commit", "parents", "commit_time"]).take(pa.array(first))
    seconds = commits["commit_time"].cast(pa.int64()).to_pylist()
    line = _main_lines(commits["commit"].to_pylist(), commits["parents"].to_pylist())
    return dict(zip(seqs.tolist(), land(seconds, line, time.time()), strict=True))


def land(seconds: Sequence[int], line: Sequence[int], now: float) -> list[int]:
    """The landing time of each commit: the latest trusted time up to it.

    Args:
        seconds: recorded time of each commit, in seconds since 1970, parents before children.
        line: indices of the commits on the main line, rising.
        now: time of this machine's clock, in seconds since 1970.
    """
    trusted = _trusted(seconds, line, now)
    if not trusted:
        return list(seconds)
    bounds = [seconds[index] for index in trusted]
    latest, landed, passed = bounds[0], [], 0
    for index, recorded in enumerate(seconds):
        while passed < len(trusted) and trusted[passed] < index:
            passed += 1
        if recorded <= bounds[min(passed, len(bounds) - 1)]:  # not later than the next trusted commit
            latest = max(latest, recorded)
        landed.append(latest)
    return landed


def _main_lines(shas: Sequence[str], parents: Sequence[Sequence[str]]) -> list[int]:
    """The indices of all commits without a child and of their first parents, as far as these are present."""
    index_of = {sha: index for index, sha in enumerate(shas)}
    has_child = {index_of[parent] for commit_parents in parents for parent in commit_parents if parent in index_of}
    line: set[int] = set()
    for tip in set(index_of.values()) - has_child:
        index: int | None = tip
        while index is not None and index not in line:
            line.add(index)
            index = index_of.get(parents[index][0]) if parents[index] else None
    return sorted(line)


def _trusted(seconds: Sequence[int], line: Sequence[int], now: float) -> list[int]:
    """The longest series of indices on the main line whose times never fall; of several, the first to end."""
    past = [index for index in line if seconds[index] <= now + DAY]
    lowest: list[
        int
    ] = []  # the lowest time in which a series of that length can end, and the index of its last commit
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for index in (
        past if 2 * len(past) > len(line) else line
    ):  # if most lie in the future, this machine's clock is wrong
        length = bisect_right(lowest, seconds[index])
        lowest[length : length + 1] = [seconds[index]]
        ends[length : length + 1] = [index]
        before[index] = ends[length - 1] if length else None
    series = []
    end = ends[-1] if ends else None
    while end is not None:
        series.append(end)
        end = before[end]
    return _without_lost_clocks(series[::-1], seconds)


def _without_lost_clocks(series: list[int], seconds: Sequence[int]) -> list[int]:
    """Remove the first commits of a series if they are less than half of it and lie far before all others."""
    for number, (earlier, later) in enumerate(pairwise(series), 1):
        if 2 * number >= len(series):
            break
        if seconds[later] - seconds[earlier] > max(LOST_SECONDS, seconds[series[-1]] - seconds[later]):
            return series[number:]
    return series

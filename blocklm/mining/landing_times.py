"""When each commit landed, as the history as a whole says it: one machine with a wrong clock moves nobody else.

A commit names the time of the machine that made it. Along first parents times can only rise, so the longest series of them
that never falls is believed, and what stands outside of it is a clock ahead or behind.
"""

import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

DAY = 86_400
# A few commits that lie this long before all others, and longer than all others last, were made by a clock that had lost
# its battery; most such clocks begin in 1970 or 1980.
LOST_SECONDS = 3650 * DAY


def landing_times(changes: pa.Table) -> dict[int, int]:
    """When each commit landed, in seconds, by its `seq`: never falling, and never later than what landed after it.

    Args:
        changes: rows with `seq`, `commit`, `parents` and `commit_time`, all of a history or a part of it.
    """
    seqs, first = np.unique(changes["seq"].to_numpy(), return_index=True)
    commits = changes.select(["commit", "parents", "commit_time"]).take(pa.array(first))
    seconds = commits["commit_time"].cast(pa.int64()).to_pylist()
    line = _main_lines(commits["commit"].to_pylist(), commits["parents"].to_pylist())
    return dict(zip(seqs.tolist(), land(seconds, line, time.time()), strict=True))


def land(seconds: Sequence[int], line: Sequence[int], now: float) -> list[int]:
    """When each commit landed: at the latest believable time seen until then.

    Args:
        seconds: what each commit says, parents before children.
        line: those that landed by themselves, rising.
        now: what the clock of this machine says.
    """
    believed = _believed(seconds, line, now)
    if not believed:
        return list(seconds)
    ends = [seconds[at] for at in believed]
    latest, landed, passed = ends[0], [], 0
    for at, said in enumerate(seconds):
        while passed < len(believed) and believed[passed] < at:
            passed += 1
        if said <= ends[min(passed, len(ends) - 1)]:  # what comes after it on the main line is later
            latest = max(latest, said)
        landed.append(latest)
    return landed


def _main_lines(shas: Sequence[str], parents: Sequence[Sequence[str]]) -> list[int]:
    """The places of all first parents, from each commit without a child on; a history may have lost some between."""
    place = {sha: at for at, sha in enumerate(shas)}
    has_child = {place[parent] for some in parents for parent in some if parent in place}
    line: set[int] = set()
    for tip in set(place.values()) - has_child:
        at: int | None = tip
        while at is not None and at not in line:
            line.add(at)
            at = place.get(parents[at][0]) if parents[at] else None
    return sorted(line)


def _believed(seconds: Sequence[int], line: Sequence[int], now: float) -> list[int]:
    """The longest series of places on the main line whose times never fall, ending as early as can be."""
    past = [at for at in line if seconds[at] <= now + DAY]
    lowest: list[int] = []  # the lowest time in which a series of that length can end, and where
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for at in past if 2 * len(past) > len(line) else line:  # or else it is this machine whose clock is wrong
        length = bisect_right(lowest, seconds[at])
        lowest[length : length + 1] = [seconds[at]]
        ends[length : length + 1] = [at]
        before[at] = ends[length - 1] if length else None
    series = []
    end = ends[-1] if ends else None
    while end is not None:
        series.append(end)
        end = before[end]
    return _without_lost_clocks(series[::-1], seconds)


def _without_lost_clocks(series: list[int], seconds: Sequence[int]) -> list[int]:
    """Leave out a beginning of less than half that lies far before all that follows."""
    for number, (earlier, later) in enumerate(pairwise(series), 1):
        if 2 * number >= len(series):
            break
        if seconds[later] - seconds[earlier] > max(LOST_SECONDS, seconds[series[-1]] - seconds[later]):
            return series[number:]
    return series

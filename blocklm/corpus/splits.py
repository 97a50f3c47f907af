"""Splits commits into train, validation and test: always by time, never at random.

A random split leaks: near-duplicates of training text make up a tenth of test's bytes, against one percent after a
split by time.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from datasets import DatasetDict

from blocklm.errors import UserError

NAMES = ("train", "validation", "test")
MIN_COMMITS = 5
GAP_COMMITS, GAP_SECONDS, MAX_GAP_SHARE = 25, 3 * 86_400, 20


@dataclass(frozen=True, slots=True)
class Cuts:
    """Positions in the landing order that bound the splits; commits between an end and the next start are purge gaps.

    Commits that share a position share a split: the later one, where a boundary falls on that position.
    """

    train_end: int
    validation_start: int
    validation_end: int
    test_start: int

    def split_of(self, position: int) -> str | None:
        """Name the split of a commit that landed at `position`; None in a gap."""
        if position >= self.test_start:
            return "test"
        if position >= self.validation_start:
            return "validation" if position < self.validation_end else None
        return "train" if position < self.train_end else None


def cut_by_time(landings: Sequence[tuple[int, int]], test_commits: int | None) -> Cuts:
    """Cut the history into train, validation and test, oldest to newest, with a gap before validation and test.

    Test is a tenth of the commits, at most 500, and at least 40 as long as these are no more than a quarter; validation
    is a twentieth. A gap is 25 commits, or all within three days if these are more, but at most a twentieth. Commits
    that landed together stay together.

    Args:
        landings: landing position and time (seconds) of each commit that has code to learn from.
        test_commits: size of test in commits; None adapts it to the repository.

    Raises:
        UserError: too few commits for three splits.
    """
    order = sorted(landings)
    count = len(order)
    test = test_commits or min(500, max(round(count / 10), min(40, count // 4)))
    validation = max(1, round(count / 20))
    if count >= MIN_COMMITS and test + validation < count:
        test_start = count - test
        validation_end = _before_gap(order, test_start)
        validation_start = max(validation_end - validation, 1)
        train_end = _before_gap(order, validation_start)
        places = [position for position, _ in order]
        cuts = Cuts(
            places[train_end - 1] + 1, places[validation_start], places[validation_end - 1] + 1, places[test_start]
        )
        if set(NAMES) <= {cuts.split_of(position) for position in places}:
            return cuts
    raise UserError(
        f"{count} commits with code to learn from are too few: {validation} are needed for validation and "
        f"{max(test, 1)} for test, and the rest trains",
        f"at least {MIN_COMMITS} such commits are needed" if test_commits is None else "lower `test_commits`",
    )


def _before_gap(order: Sequence[tuple[int, int]], start: int) -> int:
    """Count the commits before `start` that stay when the gap is taken out."""
    recent = sum(order[start][1] - time < GAP_SECONDS for _, time in order[:start])
    gap = min(max(GAP_COMMITS, recent), len(order) // MAX_GAP_SHARE)
    return max(start - gap, 1)


def describe_splits(built: DatasetDict, landed: Mapping[int, int]) -> dict[str, dict[str, Any]]:
    """Count the commits, samples and views of each split, with the first and last landing time of its commits.

    Splits of one history do not overlap in landing time, though they may in commit time.

    Args:
        built: samples by split.
        landed: landing time of each commit in seconds, by its `seq`.
    """
    described = {}
    for name, split in built.items():
        table = split.data.table
        seconds = [landed[seq] for seq in table["seq"].unique().to_pylist()]
        counts = table["view"].value_counts().to_pylist()
        described[name] = {
            "commits": len(table["commit"].unique()),
            "samples": len(split),
            "views": {entry["values"]: entry["counts"] for entry in counts},
            "from": datetime.fromtimestamp(min(seconds), UTC).isoformat(),
            "to": datetime.fromtimestamp(max(seconds), UTC).isoformat(),
        }
    return described


def spread_over_commits(commits: list[str], limit: int | None, per_commit: int, seed: int) -> list[int]:
    """Pick at most `limit` rows from as many commits as possible, at most `per_commit` of each.

    Every commit gives one row before any gives a second: only independent commits narrow a confidence interval.

    Args:
        commits: commit of each row.
        limit: maximum number of rows; None for no limit.
        per_commit: maximum number of rows of one commit.
        seed: seed that chooses among a commit's rows, and among commits if there are more than `limit`.

    Returns:
        Indices of the picked rows, ascending.
    """
    random_source = random.Random(seed)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, commit in enumerate(commits):
        rows_of[commit].append(row)
    for rows in rows_of.values():
        random_source.shuffle(rows)
    rounds = [[rows[turn] for rows in rows_of.values() if turn < len(rows)] for turn in range(per_commit)]
    for turn in rounds:
        random_source.shuffle(turn)
    return sorted([row for turn in rounds for row in turn][:limit])

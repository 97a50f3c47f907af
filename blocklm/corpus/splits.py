"""Which commits teach, which guide the training and which examine: always by time, never at random.

Random splits cheat: near-duplicates of test text reach a tenth of its bytes where a split by time leaves one percent.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from blocklm.errors import UserError

NAMES = ("train", "validation", "test")
MIN_COMMITS = 5
GAP_COMMITS, GAP_SECONDS, MAX_GAP_SHARE = 25, 3 * 86_400, 20


@dataclass(frozen=True, slots=True)
class Cuts:
    """Places in the landing order; the commits between an end and the next start are the purge gaps.

    What shares a place shares a split, the later one where two claim it.
    """

    train_end: int
    validation_start: int
    validation_end: int
    test_start: int

    def split_of(self, position: int) -> str | None:
        """The split of a commit that landed there; None in a gap."""
        if position >= self.test_start:
            return "test"
        if position >= self.validation_start:
            return "validation" if position < self.validation_end else None
        return "train" if position < self.train_end else None


def cut_by_time(landings: Sequence[tuple[int, int]], test_commits: int | None) -> Cuts:
    """Cut the history: the past to train, what follows to validation, the newest to test, a gap before each of the two.

    Test is a tenth of the commits (at least 40 where a quarter of them allows, at most 500), validation a twentieth, a gap
    25 commits or what landed within three days, but at most a twentieth. Commits that landed together stay together.

    Args:
        landings: position and time (seconds) of the landing of each commit that has code to learn from.
        test_commits: size of test in commits, None to adapt to the repository.

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
    """How many of the commits before `start` stay when the gap is taken out."""
    recent = sum(order[start][1] - time < GAP_SECONDS for _, time in order[:start])
    gap = min(max(GAP_COMMITS, recent), len(order) // MAX_GAP_SHARE)
    return max(start - gap, 1)


def spread_over_commits(commits: list[str], limit: int | None, per_commit: int, seed: int) -> list[int]:
    """Pick at most `limit` rows so that as many commits as possible are heard, at most `per_commit` times each.

    Every commit gives one row before any gives a second: independent commits, not rows of one, narrow an interval.

    Args:
        commits: the commit of each row.
        limit: how many rows to pick, None for no limit.
        per_commit: how often one commit may be picked.
        seed: which of a commit's rows, and which commits if there are more than `limit`.

    Returns:
        Indices in their original order.
    """
    chance = random.Random(seed)
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, commit in enumerate(commits):
        rows_of[commit].append(row)
    for rows in rows_of.values():
        chance.shuffle(rows)
    rounds = [[rows[turn] for rows in rows_of.values() if turn < len(rows)] for turn in range(per_commit)]
    for turn in rounds:
        chance.shuffle(turn)
    return sorted([row for turn in rounds for row in turn][:limit])

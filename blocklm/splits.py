"""Which commits teach, which guide the training and which examine: always by time, never at random.

Random splits cheat: near-duplicates of test text reach a tenth of its bytes where a split by time leaves one percent.
"""

import random
from collections import defaultdict

from blocklm.errors import UserError

NAMES = ("train", "validation", "test")
MIN_COMMITS = 5


def split_by_time(seqs: list[int], test_commits: int | None) -> dict[int, str]:
    """Map each commit, by landing order, to its split: the past to train, what follows to validation, the newest to test.

    Test is a tenth of the commits (at least 40 where a quarter of them allows, at most 500), validation a twentieth.

    Args:
        seqs: landing order of the commit of each sample.
        test_commits: size of test in commits, None to adapt to the repository.

    Raises:
        UserError: too few commits for three splits.
    """
    order = sorted(set(seqs))
    count = len(order)
    test = test_commits or min(500, max(round(count / 10), min(40, count // 4)))
    validation = max(1, round(count / 20))
    if count < MIN_COMMITS or test + validation >= count:
        raise UserError(
            f"{count} commits with code to learn from are too few: {validation} are needed for validation and "
            f"{max(test, 1)} for test, and the rest trains",
            f"at least {MIN_COMMITS} such commits are needed" if test_commits is None else "lower `test_commits`",
        )
    names = ["train"] * (count - validation - test) + ["validation"] * validation + ["test"] * test
    return dict(zip(order, names, strict=True))


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

"""Splits go by time and adapt to the size of the history."""

import pytest

from blocklm.corpus.splits import NAMES, cut_by_time, spread_over_commits
from blocklm.errors import UserError

DAY = 86_400


def cut(count: int, test_commits: int | None = None, seconds: int = DAY) -> list[str | None]:
    """The splits of so many commits, each so many seconds after the one before."""
    landings = [(3 * at, seconds * at) for at in range(count)]
    cuts = cut_by_time(landings, test_commits)
    return [cuts.split_of(position) for position, _ in landings]


@pytest.mark.parametrize("count", [5, 6, 12, 40, 160, 1000, 20_000])
def test_train_is_the_past_and_test_the_newest(count: int) -> None:
    splits = [name for name in cut(count) if name]
    assert splits == sorted(splits, key=NAMES.index)
    assert set(splits) == set(NAMES)
    assert splits.count("train") > count / 2
    assert splits.count("test") <= 500


@pytest.mark.parametrize(("count", "test"), [(12, 3), (100, 25), (200, 40), (1000, 100), (20_000, 500)])
def test_the_size_of_test_adapts(count: int, test: int) -> None:
    assert cut(count).count("test") == test


@pytest.mark.parametrize(
    ("count", "seconds", "gap"),
    [(19, DAY, 0), (100, DAY, 5), (1000, DAY, 25), (4000, DAY // 50, 150), (4000, DAY // 500, 200)],
)
def test_a_gap_lies_before_validation_and_before_test(count: int, seconds: int, gap: int) -> None:
    """25 commits, or three days of a busy repository, and never more than a twentieth of it."""
    splits = cut(count, seconds=seconds)
    assert splits.count(None) == pytest.approx(2 * gap, abs=2)
    if gap:
        assert splits[splits.index("validation") - 1] is None
        assert splits[splits.index("test") - 1] is None


def test_commits_that_landed_together_are_in_the_same_split() -> None:
    """Commits 87 to 92 of a hundred came with one merge; test would begin at 75 and at 90 with ten."""
    landings = [(92 if 87 <= at <= 92 else at, at * DAY) for at in range(100)]
    cuts = cut_by_time(landings, 10)
    assert [cuts.split_of(position) for position, _ in landings].count("test") == 13


@pytest.mark.parametrize(("count", "wanted"), [(0, None), (4, None), (10, 10), (10, 9)])
def test_too_few_commits_are_refused(count: int, wanted: int | None) -> None:
    with pytest.raises(UserError, match="are too few"):
        cut(count, wanted)


def test_one_merge_that_brought_everything_is_refused() -> None:
    with pytest.raises(UserError, match="are too few"):
        cut_by_time([(9, at) for at in range(10)], None)


def test_every_commit_has_one_item_before_any_has_two() -> None:
    commits = ["a"] * 10 + ["b"] * 2 + ["c"]
    picked = [commits[row] for row in spread_over_commits(commits, 5, 3, seed=0)]
    assert {name: picked.count(name) for name in "abc"} == {"a": 2, "b": 2, "c": 1}
    assert len(spread_over_commits(commits, None, 3, seed=0)) == 6
    assert spread_over_commits(commits, 4, 3, seed=0) == spread_over_commits(commits, 4, 3, seed=0)

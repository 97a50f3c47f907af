"""Splits go by time and adapt to the size of the history."""

import pytest

from blocklm.errors import UserError
from blocklm.splits import NAMES, split_by_time, spread_over_commits


@pytest.mark.parametrize("count", [5, 6, 12, 40, 160, 1000, 20_000])
def test_train_is_the_past_and_test_the_newest(count: int) -> None:
    split = split_by_time([seq * 3 for seq in range(count)], None)
    names = [split[seq] for seq in sorted(split)]
    assert names == sorted(names, key=NAMES.index)
    assert set(names) == set(NAMES)
    assert names.count("train") > count / 2
    assert names.count("test") <= 500


@pytest.mark.parametrize(("count", "test"), [(12, 3), (100, 25), (200, 40), (1000, 100), (20_000, 500)])
def test_the_size_of_test_adapts(count: int, test: int) -> None:
    assert list(split_by_time(list(range(count)), None).values()).count("test") == test


def test_samples_of_one_commit_stay_together() -> None:
    assert len(split_by_time([0, 0, 1, 2, 2, 2, 3, 4, 5], None)) == 6


@pytest.mark.parametrize(("count", "wanted"), [(0, None), (4, None), (10, 10), (10, 9)])
def test_too_few_commits_are_refused(count: int, wanted: int | None) -> None:
    with pytest.raises(UserError, match="are too few"):
        split_by_time(list(range(count)), wanted)


def test_every_commit_is_heard_before_any_is_heard_twice() -> None:
    commits = ["a"] * 10 + ["b"] * 2 + ["c"]
    picked = [commits[row] for row in spread_over_commits(commits, 5, 3, seed=0)]
    assert {name: picked.count(name) for name in "abc"} == {"a": 2, "b": 2, "c": 1}
    assert len(spread_over_commits(commits, None, 3, seed=0)) == 6
    assert spread_over_commits(commits, 4, 3, seed=0) == spread_over_commits(commits, 4, 3, seed=0)

"""Intervals and p-values agree with scipy, statsmodels and computations by hand."""

import numpy as np
import pytest

from blocklm.evaluation.exam.significance import difference, holm, relative_change


def test_holm_raises_each_chance_by_how_many_are_left() -> None:
    """By hand: .01 · 4, .02 · 3, .03 · 2 is less than the one before, .9 · 1."""
    found = holm({"d": 0.9, "b": 0.02, "a": 0.01, "c": 0.03})
    assert found == pytest.approx({"d": 0.9, "b": 0.06, "a": 0.04, "c": 0.06})


def test_holm_equals_that_of_statsmodels() -> None:
    """`multipletests(method="holm")` of statsmodels 0.15.0."""
    found = holm(dict(zip("abcdefg", [0.011, 0.6, 0.004, 0.03, 0.2, 0.049, 0.0005], strict=True)))
    assert list(found.values()) == pytest.approx([0.055, 0.6, 0.024, 0.12, 0.4, 0.147, 0.0035])


def test_the_interval_equals_that_of_scipy() -> None:
    """`bootstrap(paired=True, method="percentile")` of scipy 1.17.1 with a million draws; ours are 2,000."""
    before = [127.0, 140, 62, 140, 106, 111, 123, 88, 157, 65, 87, 98]
    after = [112.0, 121, 61, 148, 100, 92, 104, 93, 148, 51, 80, 82]
    found = relative_change(np.stack([before, after], axis=1))
    assert found["ci95"] == pytest.approx([-13.037, -3.741], abs=0.2)


def test_an_effect_that_each_commit_shows_is_detected() -> None:
    found = relative_change(np.array([[100.0, 90.0]] * 20))
    assert found["ci95"] == pytest.approx([-10, -10])
    assert found["verdict"] == "better"
    assert found["p"] == pytest.approx(2 / 2001)
    assert found["commits_needed"] is None


def test_a_mean_is_compared_over_items_and_drawn_by_commits() -> None:
    """By hand: 3 items of one commit and 1 of another go from 0.75 to 1 on average."""
    totals = np.array([[3.0, 3.0, 3.0], [1.0, 0.0, 1.0]])
    assert difference(totals)["delta"] == 0.25
    sure = difference(np.array([[2.0, 0.5, 1.5]] * 20))
    assert (sure["verdict"], sure["ci95"]) == ("better", pytest.approx([0.5, 0.5]))
    assert difference(np.array([[2.0, 0.5, 1.5]] * 20), less_is_better=True)["verdict"] == "worse"
    assert difference(np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]] * 9))["verdict"] == "no detectable change"


def test_a_few_agreeing_commits_are_not_significant() -> None:
    """Five fair coins fall alike once in sixteen times."""
    for commits, verdict in ((2, "no detectable change"), (5, "no detectable change"), (6, "better")):
        found = difference(np.array([[1.0, 0.0, 1.0]] * commits))
        assert (found["p"], found["verdict"]) == (2.0 ** (1 - commits), verdict)
        assert relative_change(np.array([[100.0, 50.0]] * commits))["p"] == 2.0 ** (1 - commits)


def test_without_a_detected_change_the_needed_commits_are_named() -> None:
    """A mean of -1 % with a deviation of 10 points: (2.8 · 10 / 1)² = 784 commits."""
    after = np.array([89.0, 109.0] * 50)
    found = relative_change(np.stack([np.full(100, 100.0), after], axis=1))
    assert found["verdict"] == "no detectable change"
    assert found["p"] > 0.2
    assert found["commits_needed"] == pytest.approx(784, rel=0.1)


def test_the_interval_covers_the_truth_in_95_of_100_exams() -> None:
    chance = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        before = chance.uniform(80, 120, 60)
        low, high = relative_change(np.stack([before, before * chance.normal(0.95, 0.1, 60)], axis=1))["ci95"]
        covered += low <= -5 <= high
    assert 180 <= covered <= 198

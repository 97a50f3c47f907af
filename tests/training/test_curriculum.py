"""Samples follow shares, weights and phases exactly, and depend on the seed alone."""

import numpy as np
import pytest

from blocklm.training.curriculum import (
    PassLimits,
    Phase,
    draw,
    in_span,
    passes,
    phases_of,
    rates_of,
    rates_with_replay,
)

VIEWS = ["edit", "completion", "message"] * 100
WEIGHTS = [1.0] * 300


def test_views_have_their_shares() -> None:
    rates = rates_of(VIEWS, WEIGHTS, PassLimits({"edit": 0.5, "completion": 0.3, "message": 0.2}))
    assert rates.shares == {"edit": 0.5, "completion": 0.3, "message": 0.2}
    assert rates.size == 200
    assert rates.values[:3] == pytest.approx([1.0, 0.6, 0.4])


def test_a_rare_view_is_read_at_most_twice_per_pass() -> None:
    views = ["edit"] * 98 + ["message"] * 2
    rates = rates_of(views, [1.0] * 100, PassLimits({"edit": 0.5, "message": 0.5}))
    assert rates.values[-1] == 2.0
    assert rates.shares["message"] == pytest.approx(4 / 102, abs=1e-4)


def test_few_files_do_not_end_a_pass_over_many_changes() -> None:
    views, shares = [*["edit"] * 90, *["file"] * 3], {"file": 0.7, "edit": 0.3}
    whole = rates_of(views, [1.0] * 93, PassLimits(shares))
    assert whole.values[:90] == pytest.approx([1.0] * 90)
    assert whole.values[90:] == pytest.approx([2.0] * 3)
    limited = rates_of(views, [1.0] * 93, PassLimits(shares, 20))
    assert limited.size == 20
    assert limited.values[90:] == pytest.approx([2.0] * 3), "files have their share as far as they go"
    enough = rates_of([*["edit"] * 90, *["file"] * 30], [1.0] * 120, PassLimits(shares, 20))
    assert enough.shares == pytest.approx(shares)


def test_a_view_that_is_not_there_leaves_its_share_to_the_others() -> None:
    assert rates_of(["edit"], [1.0], PassLimits({"edit": 0.5, "completion": 0.5})).shares == {"edit": 1.0}


def test_weights_decide_within_a_view_and_zero_is_never_read() -> None:
    weights = [3.0, 1.0, 0.0, 0.0] * 25
    rates = rates_of(["edit"] * 100, weights, PassLimits({"edit": 1.0}))
    assert rates.values[:4] == pytest.approx([1.5, 0.5, 0, 0])
    assert set(draw(rates.values, 50, np.random.default_rng(0)) % 4) == {0, 1}


def test_a_smaller_pass_takes_the_newest_of_each_view_or_any() -> None:
    views = [*VIEWS, *["file"] * 60]
    shares = {"edit": 0.5, "completion": 0.3, "message": 0.1, "file": 0.1}
    newest = rates_of(views, [1.0] * 360, PassLimits(shares, 40, newest=True))
    assert newest.size == 40
    assert newest.values[:200].sum() == 0, "the old is not read"
    assert (newest.values[300:] > 0).all(), "files have no age"
    assert newest.shares == pytest.approx(shares)
    any_of_them = rates_of(views, [1.0] * 360, PassLimits(shares, 40))
    assert (any_of_them.values > 0).all()
    assert any_of_them.size == 40


def test_replay_has_its_share_in_the_same_views() -> None:
    new = np.arange(300) >= 270
    rates = rates_with_replay(VIEWS, WEIGHTS, new, 0.3, PassLimits({"edit": 0.5, "completion": 0.3, "message": 0.2}))
    assert rates.values[new] == pytest.approx([1.0, 0.6, 0.4] * 10), "what is new is read as without replay"
    assert rates.values[~new].sum() == pytest.approx(9), "20 new : 9 replayed"
    assert rates.replay_share == pytest.approx(0.3, abs=0.02)
    assert rates.shares == {"edit": 0.5, "completion": 0.3, "message": 0.2}
    for seed in range(20):
        drawn = draw(rates.parts, rates.size, np.random.default_rng(seed))
        assert (len(drawn), int(new[drawn].sum())) == (29, 20), "the size of each part is exact"


def test_few_old_samples_are_replayed_at_most_once_per_pass() -> None:
    new = np.arange(300) >= 30
    rates = rates_with_replay(VIEWS, WEIGHTS, new, 0.5, PassLimits({"edit": 0.5, "completion": 0.3, "message": 0.2}))
    assert (rates.values[~new] <= 1).all()
    assert rates.replay_share == pytest.approx(0.1)


def test_replay_is_drawn_by_weight_within_the_size_of_a_pass_or_not_at_all() -> None:
    weights = [2.0, 1.0, 0.0] * 50 + [1.0] * 150
    new = np.arange(300) >= 150
    rates = rates_with_replay(["edit"] * 300, weights, new, 0.25, PassLimits({"edit": 1.0}, 40))
    assert rates.size == 40
    assert rates.values[new].sum() == pytest.approx(30)
    assert rates.values[:3] == pytest.approx([10 / 75, 5 / 75, 0])
    none = rates_with_replay(["edit"] * 300, weights, new, 0.0, PassLimits({"edit": 1.0}))
    assert (none.values[~new].sum(), none.replay_share) == (0, 0)


@pytest.mark.parametrize("size", [1, 7, 100, 250])
def test_a_draw_has_its_size_and_no_sample_more_often_than_its_rate_rounded_up(size: int) -> None:
    rates = np.random.default_rng(1).random(120)
    for seed in range(20):
        drawn = draw(rates, size, np.random.default_rng(seed))
        assert len(drawn) == size
        counts, expected = np.bincount(drawn, minlength=120), rates * size / rates.sum()
        assert (counts >= np.floor(expected)).all() and (counts <= np.ceil(expected)).all()


def test_on_average_a_sample_is_drawn_as_often_as_its_rate() -> None:
    rates = np.array([0.25, 0.75, 1.5, 0.5])
    counts = sum(np.bincount(draw(rates, 3, np.random.default_rng(seed)), minlength=4) for seed in range(2000))
    assert counts / 2000 == pytest.approx(rates, abs=0.05)


def test_every_pass_is_drawn_again_from_the_seed_alone() -> None:
    rates = np.full(50, 0.5)
    one, two = list(passes(rates, 60, seed=3)), list(passes(rates, 60, seed=3))
    assert [len(some) for some in one] == [25, 25, 10]
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert set(one[0]) != set(one[1])
    assert set(one[0]) != set(next(passes(rates, 60, seed=4)))


def test_phases_select_samples_by_age() -> None:
    phases = phases_of({"early": {"share": 3}, "late": {"share": 1, "span": [0.5, 1.0], "max_length": 256}})
    assert phases == [Phase("early", 0.75), Phase("late", 0.25, (0.5, 1.0), 256)]
    assert phases_of(None) == [Phase("all", 1.0)]
    late = in_span(np.ones(10), (0.5, 1.0))
    assert late.tolist() == [0.0] * 5 + [1.0] * 5
    uneven = np.array([0.0, 4.0, 1.0, 1.0, 1.0, 1.0])
    assert in_span(uneven, (0.5, 1.0)).tolist() == [0, 0, 1, 1, 1, 1], "age is counted in what is read"

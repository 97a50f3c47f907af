"""New and lasting changes weigh more, as measured on the history before the split."""

from typing import Any

import numpy as np
import pytest

from blocklm.config.sampling import SamplingArguments
from blocklm.corpus.sample_weights import (
    FLOOR,
    MIN_HALF_LIFE_DAYS,
    Preferences,
    SampleWeights,
    effective_size,
    lines_at_cut,
    survival_curve,
    weight_samples,
)
from blocklm.git.authors import pseudonym

AGES = np.linspace(1000, 0, 101)
LINES = np.full(101, 10.0)


def weights(kept: np.ndarray[Any, Any], **settings: Any) -> SampleWeights:
    return weight_samples(AGES, kept, LINES, np.ones(101), SamplingArguments(**settings))


def test_the_half_life_is_the_age_at_which_half_of_the_lines_have_been_replaced() -> None:
    """All lines younger than 300 days have survived, and no older ones."""
    kept = np.where(AGES < 300, LINES, 0.0)
    found = weights(kept, recency="auto", survival=False)
    assert 150 < found.report["half_life_days"] < 500
    assert found.values[-1] > found.values[-40] > found.values[0] > 0
    assert found.values.mean() == pytest.approx(1)


def test_the_half_life_of_lines_that_all_last_is_the_age_of_the_history() -> None:
    assert weights(LINES, recency="auto", survival=False).report["half_life_days"] == 1000


def test_a_history_of_short_lived_lines_has_the_shortest_half_life() -> None:
    assert weights(np.zeros(101), recency="auto", survival=False).report["half_life_days"] == MIN_HALF_LIFE_DAYS


def test_a_half_life_can_be_given_or_switched_off() -> None:
    found = weights(LINES, recency="100", survival=False)
    assert found.values[-1] / found.values[-11] == pytest.approx(2)
    assert weights(LINES, recency="off", survival=False).values == pytest.approx(1)
    assert weights(LINES, recency="newest").report["half_life_days"] is None


def test_a_young_history_has_no_shorter_half_life_than_a_month() -> None:
    found = weight_samples(AGES / 100, np.zeros(101), LINES, np.ones(101), SamplingArguments(recency="auto"))
    assert found.report["half_life_days"] == MIN_HALF_LIFE_DAYS


def test_at_least_half_of_the_samples_stay_effective() -> None:
    """Ten new changes among ninety old ones would outweigh them: the floor rises until half of all count."""
    ages = np.where(np.arange(101) < 91, 1000.0, 0.0)
    found = weight_samples(ages, LINES, LINES, np.ones(101), SamplingArguments(recency="1", survival=False))
    assert found.report["floor"] > FLOOR
    assert found.report["effective_samples"] >= 50


def test_lasting_lines_weigh_more_than_replaced_ones() -> None:
    kept = np.where(np.arange(101) % 2, LINES, 0.0)
    found = weights(kept, recency="off")
    assert found.values[1] / found.values[0] == pytest.approx(1 / 0.3)


def test_quality_multiplies() -> None:
    quality = np.where(np.arange(101) % 2, 2.0, 1.0)
    found = weight_samples(AGES, LINES, LINES, quality, SamplingArguments(recency="off"))
    assert found.values[1] / found.values[0] == pytest.approx(2)


def test_the_curve_counts_lines_by_age() -> None:
    curve = survival_curve(np.array([0.0, 0.0, 500.0]), np.array([1.0, 3.0, 0.0]), np.array([2.0, 4.0, 5.0]))
    assert curve == [(0.0, pytest.approx(4 / 6)), (500.0, 0.0)]
    assert survival_curve(np.array([1.0]), np.array([0.0]), np.array([0.0])) == []


def test_effective_samples_are_those_of_equal_weights() -> None:
    assert effective_size(np.ones(10)) == pytest.approx(10)
    assert effective_size(np.array([1.0, 0, 0, 0])) == pytest.approx(1)


def test_short_lines_are_no_sign_of_survival() -> None:
    assert lines_at_cut(["@@ -0,0 +1,2 @@\n+}\n+    let answer = compute(x);\n"]) == {"let answer = compute(x);"}


def test_paths_and_authors_are_weighed_by_the_recipe() -> None:
    first = "ab" * 20
    sampling = SamplingArguments(
        boost={"crates/**": 2, "crates/old/**": 0}, author_weights={"Ada Lovelace <ada@example.org>": 3}
    )
    preferences = Preferences(sampling, {"demo": first})
    ada = pseudonym("Ada Lovelace", "ada@example.org", bytes.fromhex(first))
    assert preferences.of("crates/a.rs", "somebody") == 2
    assert preferences.of("crates/old/a.rs", "somebody") == 0, "the last glob that matches decides"
    assert preferences.of("README.md", ada) == 3

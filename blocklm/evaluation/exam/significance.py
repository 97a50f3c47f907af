"""Tests whether a difference between two arms that answered the same questions is significant.

The interval is a paired bootstrap that resamples commits, because samples of one commit are not independent (Efron and
Tibshirani 1993). Several differences that are tested together are held to Holm's step-down bound (Holm 1979).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0  # the same resamples for every run on the same commits
RESAMPLES = 2000
ALPHA = 0.05
# In standard errors: half of a 95 % interval, and the excess over it that 80 % power needs.
INTERVAL_WIDTH, POWER = 1.96, 0.84

Floats = NDArray[np.float64]


def difference(totals: Floats, less_is_better: bool = False) -> dict[str, Any]:
    """Compute the change of a mean score from one arm to another.

    Args:
        totals: array of shape (commits, 3): number of items, and both arms' scores summed over the commit's items.
        less_is_better: if true, a rise is worse; False by default.

    Returns:
        `delta`, `ci95`, `p` and `verdict`, as in `relative_change`.
    """
    sums = _resample(totals)
    changes = (sums[:, 2] - sums[:, 1]) / sums[:, 0]
    low, high = (float(edge) for edge in np.percentile(changes, [2.5, 97.5]))
    items, before, after = totals.sum(axis=0)
    up, down = ("worse", "better") if less_is_better else ("better", "worse")
    chance = _p_value(changes, len(totals))
    return {
        "delta": float((after - before) / items),
        "ci95": [low, high],
        "p": chance,
        "verdict": "no detectable change" if chance > ALPHA or low <= 0 <= high else up if low > 0 else down,
    }


def relative_change(totals: Floats) -> dict[str, Any]:
    """Compute the change in percent from one arm to another, where less is better.

    Args:
        totals: array of shape (commits, 2): both arms' bits, summed over the commit's questions.

    Returns:
        `delta_percent`; `ci95`; `p`, two-sided, from the same resamples; `verdict`, which is `better`, `worse`, or
        `no detectable change` if the interval covers 0; and `commits_needed`, the number of such commits with which 4
        of 5 exams would detect a change of this size, or None if it is detected already or there is no change.
    """
    sums = _resample(totals)
    changes = 100 * (sums[:, 1] / sums[:, 0] - 1)
    low, high = (float(edge) for edge in np.percentile(changes, [2.5, 97.5]))
    before, after = totals.sum(axis=0)
    delta = float(100 * (after / before - 1))
    verdict = "better" if high < 0 else "worse" if low > 0 else "no detectable change"
    needed = None
    if verdict == "no detectable change" and delta:
        deviation = (high - low) / (2 * INTERVAL_WIDTH) * math.sqrt(len(totals))
        needed = max(len(totals) + 1, math.ceil(((INTERVAL_WIDTH + POWER) * deviation / abs(delta)) ** 2))
    return {
        "delta_percent": delta,
        "ci95": [low, high],
        "p": _p_value(changes, len(totals)),
        "verdict": verdict,
        "commits_needed": needed,
    }


def _resample(totals: Floats) -> Floats:
    """Sum the totals over each resample: as many commits, drawn with replacement."""
    picks = np.random.default_rng(SEED).integers(0, len(totals), size=(RESAMPLES, len(totals)))
    sums: Floats = totals[picks].sum(axis=1)
    return sums


def _p_value(changes: Floats, commits: int) -> float:
    """Compute the two-sided p-value: how often a resample falls on the other side of no change.

    If few commits agree, no resample does. The p-value is therefore at least that of a sign test in which all commits
    agree: with five commits it is over 5 %, however large the change.
    """
    tail = min((changes >= 0).sum(), (changes <= 0).sum())
    return float(min(1.0, max(2 * (tail + 1) / (RESAMPLES + 1), 2.0 ** (1 - commits))))


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Adjust the p-values of several differences, so that under 5 % at most 5 % of families have a false positive."""
    raised, highest = {}, 0.0
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda pair: pair[1])):
        highest = max(highest, min(1.0, (len(chances) - place) * chance))
        raised[name] = highest
    return {name: raised[name] for name in chances}

"""How sure a difference between two arms is, when both answered the same questions.

The interval is a paired bootstrap that resamples commits, because samples of one commit are not independent (Efron and
Tibshirani 1993). Several differences looked at together are held to Holm's step-down bound (Holm 1979).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 0  # the same resamples for every run on the same commits
RESAMPLES = 2000
ALPHA = 0.05
REACH, POWER = 1.96, 0.84  # standard errors: half of a 95 % interval, and what 4 of 5 repetitions need beyond it

Floats = NDArray[np.float64]


def difference(totals: Floats, less_is_better: bool = False) -> dict[str, Any]:
    """The change of a mean score from one arm to another.

    Args:
        totals: commits by (items, from, to), the scores summed over the items of that commit.
        less_is_better: whether a rise is bad.

    Returns:
        `delta`, `ci95`, `p` and `verdict`, as of `relative_change`.
    """
    sums = _resampled(totals)
    changes = (sums[:, 2] - sums[:, 1]) / sums[:, 0]
    low, high = (float(edge) for edge in np.percentile(changes, [2.5, 97.5]))
    items, before, after = totals.sum(axis=0)
    up, down = ("worse", "better") if less_is_better else ("better", "worse")
    chance = _chance(changes, len(totals))
    return {
        "delta": float((after - before) / items),
        "ci95": [low, high],
        "p": chance,
        "verdict": "no detectable change" if chance > ALPHA or low <= 0 <= high else up if low > 0 else down,
    }


def relative_change(totals: Floats) -> dict[str, Any]:
    """The change in percent from one arm to another, where less is better.

    Args:
        totals: commits by (from, to), each the sum over what was asked of that commit.

    Returns:
        `delta_percent`, `ci95`, `p` (two-sided, by the same resamples), `verdict` (`better`, `worse`, or
        `no detectable change` when the interval covers 0) and `commits_needed`: how many such commits would show the change
        that was found, if it is real, in 4 of 5 exams; None where it is shown already or there is none.
    """
    sums = _resampled(totals)
    changes = 100 * (sums[:, 1] / sums[:, 0] - 1)
    low, high = (float(edge) for edge in np.percentile(changes, [2.5, 97.5]))
    before, after = totals.sum(axis=0)
    delta = float(100 * (after / before - 1))
    verdict = "better" if high < 0 else "worse" if low > 0 else "no detectable change"
    needed = None
    if verdict == "no detectable change" and delta:
        deviation = (high - low) / (2 * REACH) * math.sqrt(len(totals))
        needed = max(len(totals) + 1, math.ceil(((REACH + POWER) * deviation / abs(delta)) ** 2))
    return {
        "delta_percent": delta,
        "ci95": [low, high],
        "p": _chance(changes, len(totals)),
        "verdict": verdict,
        "commits_needed": needed,
    }


def _resampled(totals: Floats) -> Floats:
    """The totals over each draw of as many commits, some of them several times."""
    picks = np.random.default_rng(SEED).integers(0, len(totals), size=(RESAMPLES, len(totals)))
    found: Floats = totals[picks].sum(axis=1)
    return found


def _chance(changes: Floats, commits: int) -> float:
    """Two-sided: how often a draw falls on the other side of no change.

    Draws of few commits that agree never do. The chance is therefore at least that of a sign test by which so many commits
    agree: with five it is over 5 %, however large the change.
    """
    tail = min((changes >= 0).sum(), (changes <= 0).sum())
    return float(min(1.0, max(2 * (tail + 1) / (RESAMPLES + 1), 2.0 ** (1 - commits))))


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """The p-values of several differences, raised so that calling those under 5 % different errs in 5 % of families at most."""
    raised, highest = {}, 0.0
    for place, (name, chance) in enumerate(sorted(chances.items(), key=lambda pair: pair[1])):
        highest = max(highest, min(1.0, (len(chances) - place) * chance))
        raised[name] = highest
    return {name: raised[name] for name in chances}

"""Decides how often each sample is read: shares of views, weights of samples, phases of a training.

Weights act by repetition: each pass draws a sample as often as its weight says, rounded up or down at random, so that
all passes have the same size. Each draw depends only on the seed and the pass, so the order is known before the first
step and a resumed run reads exactly the same rows.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from blocklm.config.run import RunArguments
from blocklm.config.sampling import OF_NO_AGE, SamplingArguments

MAX_REPEATS = 2.0  # times per pass that a rare view's sample is read on average: more would memorise it

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training.

    Attributes:
        name: the recipe's name for it.
        share: its share of all samples read, 0 to 1.
        span: start and end of its samples by age, 0 for the oldest to 1 for the newest.
        max_length: maximum tokens per sample; None for the recipe's own.
    """

    name: str
    share: float
    span: tuple[float, float] = (0.0, 1.0)
    max_length: int | None = None


@dataclass(frozen=True)
class Rates:
    """Mean number of times that each sample is read in one pass.

    Attributes:
        parts: rates of shape (1, samples); in a top-up (2, samples), new samples first and replay second.
        shares: each view's share of a pass, 0 to 1.
    """

    parts: Floats
    shares: dict[str, float]

    @property
    def values(self) -> Floats:
        """The rate of each sample."""
        return np.asarray(self.parts.sum(axis=0))

    @property
    def replay_share(self) -> float:
        """Share of a pass that is replay, 0 to 1."""
        return float(self.parts[1:].sum() / self.parts.sum())

    @property
    def size(self) -> int:
        """Number of samples in a pass."""
        return max(1, round(float(self.values.sum())))


def phases_of(given: Mapping[str, Mapping[str, Any]] | None) -> list[Phase]:
    """Read the recipe's phases, their shares scaled to a sum of 1; a single phase if it has none."""
    if not given:
        return [Phase("all", 1.0)]
    total = sum(phase["share"] for phase in given.values())
    return [
        Phase(name, phase["share"] / total, tuple(phase.get("span", (0.0, 1.0))), phase.get("max_length"))
        for name, phase in given.items()
    ]


@dataclass(frozen=True)
class PassLimits:
    """What limits one pass over the samples.

    Attributes:
        shares: share of each view.
        size: maximum samples in a pass; None, the default, for no maximum.
        newest: if true, a limited pass takes the newest samples of each view; by default it samples by weight.
    """

    shares: Mapping[str, float]
    size: int | None = None
    newest: bool = False

    def within(self, size: float) -> Self:
        """Lower the maximum to `size` samples, at least 1."""
        return replace(self, size=max(1, min(round(size), self.size or round(size))))


def pass_limits(sampling: SamplingArguments, run: RunArguments, steps_read: int) -> PassLimits:
    """Read the limits of a pass from the recipe's keys.

    Args:
        sampling: shares of the views, and whether the newest samples come first.
        run: most samples of an epoch.
        steps_read: samples that `max_steps` steps read; 0 without that key.
    """
    given = [size for size in (run.max_train_samples, steps_read) if size]
    return PassLimits(sampling.shares, min(given, default=None), newest=sampling.recency == "newest")


def rates_within_tokens(
    rates_within: Callable[[PassLimits], Rates], limits: PassLimits, tokens: float, mean: Mapping[str, float]
) -> Rates:
    """Spread the smallest pass that reads `tokens`, or a whole pass if that reads fewer.

    A limited pass has another mixture than a whole one, and so another mean length: each size is counted by itself.

    Args:
        rates_within: spreads a pass within some limits.
        limits: what else limits the pass.
        tokens: tokens of the pass, reached with its last sample.
        mean: mean tokens of a sample of each view.
    """
    sizes = range(1, rates_within(limits).size + 1)
    enough = bisect_left(sizes, tokens, key=lambda size: tokens_of(rates_within(limits.within(size)), mean))
    return rates_within(limits.within(1 + enough))


def tokens_of(rates: Rates, mean: Mapping[str, float]) -> float:
    """Count the tokens of a pass by the mean tokens of a sample of each view."""
    return rates.size * sum(share * mean.get(view, 0.0) for view, share in rates.shares.items())


def epochs_for(run: RunArguments, tokens: float) -> float:
    """Choose the epochs that read `target_tokens` if one reads `tokens`, within the recipe's bounds."""
    assert run.target_tokens is not None
    return min(max(run.target_tokens / max(1.0, tokens), run.min_epochs), run.max_epochs)


def rates_of(views: Sequence[str], weights: Sequence[float], limits: PassLimits) -> Rates:
    """Spread a pass over the views by their shares, and within a view over its samples by their weights.

    Of the views that are made of changes, each sample of the one with the largest share is read once on average. The
    other views follow their shares, but no view's samples are read more than twice on average. A limited pass is filled
    by the other views then. Views of files do not decide the size: a long history may have left few files.

    Args:
        views: view of each sample, oldest first.
        weights: weight of each sample.
        limits: shares of the views, and size of the pass.
    """
    shares = limits.shares
    view, weight = np.array(views), np.asarray(weights, float)
    rows = {name: np.flatnonzero((view == name) & (weight > 0)) for name in shares}
    present = {name: share for name, share in shares.items() if len(rows[name])}
    main = max(present, key=lambda name: (name not in OF_NO_AGE, present[name]))
    total = len(rows[main]) / present[main]
    most = {name: MAX_REPEATS * len(rows[name]) for name in present}
    counts = {name: min(total * share, most[name]) for name, share in present.items()}
    read = counts if limits.size is None or limits.size >= sum(counts.values()) else _fill(present, most, limits.size)
    values = np.zeros(len(view))
    for name in present:
        rates = weight[rows[name]] / weight[rows[name]].sum()
        newest = limits.newest and name not in OF_NO_AGE
        values[rows[name]] = _newest(rates * counts[name], read[name]) if newest else rates * read[name]
    return _rates(np.array([values]), view, shares)


def _fill(shares: Mapping[str, float], most: Mapping[str, float], size: float) -> dict[str, float]:
    """Share out `size` samples among the views; what a view has too few samples for goes to the others."""
    counts: dict[str, float] = {}
    while left := {name: share for name, share in shares.items() if name not in counts}:
        scale = (size - sum(counts.values())) / sum(left.values())
        full = {name: most[name] for name, share in left.items() if share * scale > most[name]}
        counts |= full or {name: share * scale for name, share in left.items()}
    return counts


def rates_with_replay(
    views: Sequence[str],
    weights: Sequence[float],
    new: NDArray[np.bool_],
    replay_share: float,
    limits: PassLimits,
) -> Rates:
    """Spread a pass over the new samples as `rates_of` does, and add old samples up to their share.

    Old samples are read at most once per pass: if there are few, their share is smaller.

    Args:
        views: view of each sample, oldest first.
        weights: weight of each sample; at least one new sample of a view with a share needs a weight above 0.
        new: mask of the new samples.
        replay_share: share of old samples in a pass, 0 to 1.
        limits: shares of the views among the new and among the old samples, and size of both together.
    """
    weight, view = np.asarray(weights, float), np.array(views)
    new_size = max(1, round(limits.size * (1 - replay_share))) if limits.size else None
    parts = rates_of(views, np.where(new, weight, 0.0).tolist(), replace(limits, size=new_size)).parts
    replay = round(float(parts.sum()) * replay_share / (1 - replay_share))
    if replay and (~new & (weight > 0) & np.isin(view, list(limits.shares))).any():
        known = rates_of(views, np.where(new, 0.0, weight).tolist(), replace(limits, size=replay)).parts
        parts = np.concatenate([parts, known])
    return _rates(parts, view, limits.shares)


def _rates(parts: Floats, view: NDArray[np.str_], names: Iterable[str]) -> Rates:
    values = parts.sum(axis=0)
    read = {name: float(values[view == name].sum() / values.sum()) for name in sorted(names)}
    return Rates(parts, {name: round(share, 4) for name, share in read.items() if share})


def _newest(rates: Floats, size: float) -> Floats:
    """Keep the newest samples up to `size`; all other rates are zero."""
    newer = np.cumsum(rates[::-1])[::-1] - rates
    return np.clip(size - newer, 0, rates)


def draw(rates: Floats, size: int, generator: np.random.Generator) -> Indices:
    """Draw `size` samples in a random order by systematic sampling (Madow 1949).

    A sample is drawn as often as its rate, rounded up or down. If `rates` has several rows, which must not share a
    sample, the number of samples drawn from each row is likewise its sum, rounded up or down.
    """
    parts = np.atleast_2d(rates)
    order = np.concatenate([generator.permutation(np.flatnonzero(part)) for part in parts])
    edges = np.cumsum(parts.sum(axis=0)[order] * (size / parts.sum()))
    edges[-1] = size
    counts = np.diff(np.floor(edges + generator.random()), prepend=0).astype(np.int64)
    return generator.permutation(np.repeat(order, counts))


def passes(rates: Floats, total: int, seed: int) -> Iterator[Indices]:
    """Yield one pass after the other until `total` samples are drawn; the last pass may be partial."""
    size = max(1, round(float(rates.sum())))
    number = 0
    while total > 0:
        generator = np.random.default_rng((seed, number))
        yield draw(rates, min(size, total), generator)
        total -= size
        number += 1


def in_span(rates: Floats, span: tuple[float, float]) -> Floats:
    """Keep the rates of the samples whose age, counted in samples read, lies in `span`; all other rates are zero."""
    place = (np.cumsum(rates) - rates / 2) / max(1e-12, float(rates.sum()))
    return np.where((place >= span[0]) & (place <= span[1]), rates, 0.0)

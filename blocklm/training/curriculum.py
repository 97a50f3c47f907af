"""Which sample is read when: the share of each view, the weight of each sample, the phases of a training.

Weights are realised by repetition: in each pass a sample is drawn as often as its weight says, rounded up or down by chance,
so that a whole pass always has the same size. Every draw follows from the seed and the pass alone, and the whole order is
known before the first step: a run that is resumed in the middle reads on bit for bit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blocklm.config.sampling import OF_NO_AGE

MAX_REPEATS = 2.0  # of a sample of a rare view in one pass: beyond, it would be learned by heart

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training: its share of all that is read, and which samples, by age from 0 to 1, at which length."""

    name: str
    share: float
    span: tuple[float, float] = (0.0, 1.0)
    max_length: int | None = None


@dataclass(frozen=True)
class Rates:
    """How often each sample is read in one pass, on average; `shares` are what the views have of it.

    `parts` has a row for all samples, or, in a top-up, one for what is new and one for what is replayed.
    """

    parts: Floats
    shares: dict[str, float]

    @property
    def values(self) -> Floats:
        """The rate of each sample."""
        return np.asarray(self.parts.sum(axis=0))

    @property
    def replay_share(self) -> float:
        """What the replayed part has of a pass."""
        return float(self.parts[1:].sum() / self.parts.sum())

    @property
    def size(self) -> int:
        """Samples in a pass."""
        return max(1, round(float(self.values.sum())))


def phases_of(given: Mapping[str, Mapping[str, Any]] | None) -> list[Phase]:
    """The phases of a recipe, shares together 1; one for all without any."""
    if not given:
        return [Phase("all", 1.0)]
    total = sum(phase["share"] for phase in given.values())
    return [
        Phase(name, phase["share"] / total, tuple(phase.get("span", (0.0, 1.0))), phase.get("max_length"))
        for name, phase in given.items()
    ]


def rates_of(
    views: Sequence[str],
    weights: Sequence[float],
    shares: Mapping[str, float],
    size: int | None = None,
    newest: bool = False,
) -> Rates:
    """Spread a pass over the views by their shares, and within a view over its samples by their weights.

    The view with the largest share is read once on average; the others as much as their shares ask, but no sample more than
    twice on average.

    Args:
        views: the view of each sample, oldest first.
        weights: the weight of each sample.
        shares: the share of each view.
        size: how many samples a pass may have at most.
        newest: whether a pass that is smaller for it takes the newest samples of each view instead of any by their weights.
    """
    view, weight = np.array(views), np.asarray(weights, float)
    rows = {name: np.flatnonzero((view == name) & (weight > 0)) for name in shares}
    present = {name: share for name, share in shares.items() if len(rows[name])}
    main = max(present, key=lambda name: present[name])
    whole = len(rows[main]) / present[main]
    drawn = {name: min(whole * share, MAX_REPEATS * len(rows[name])) for name, share in present.items()}
    part = min(1.0, (size or sum(drawn.values())) / sum(drawn.values()))
    values = np.zeros(len(view))
    for name in present:
        rates = weight[rows[name]] * drawn[name] / weight[rows[name]].sum()
        values[rows[name]] = _newest(rates, drawn[name] * part) if newest and name not in OF_NO_AGE else rates * part
    return _rates(np.array([values]), view)


def rates_with_replay(
    views: Sequence[str],
    weights: Sequence[float],
    new: NDArray[np.bool_],
    replay_share: float,
    shares: Mapping[str, float],
    size: int | None = None,
    newest: bool = False,
) -> Rates:
    """A pass over what is new, spread as `rates_of` spreads it, and beside it enough of the rest to have its share.

    Of what is known already there is one pass at most: where that is little, its share is smaller.

    Args:
        views: the view of each sample, oldest first.
        weights: the weight of each sample; some new one's must be above 0, in a view that has a share.
        new: which samples are new.
        replay_share: what of a pass is to be known already.
        shares: the share of each view, in either part.
        size: how many samples a pass may have at most, of both parts.
        newest: as in `rates_of`.
    """
    weight, view = np.asarray(weights, float), np.array(views)
    room = max(1, round(size * (1 - replay_share))) if size else None
    parts = rates_of(views, np.where(new, weight, 0.0).tolist(), shares, room, newest).parts
    replay = round(float(parts.sum()) * replay_share / (1 - replay_share))
    if replay and (~new & (weight > 0) & np.isin(view, list(shares))).any():
        known = rates_of(views, np.where(new, 0.0, weight).tolist(), shares, replay, newest).parts
        parts = np.concatenate([parts, known])
    return _rates(parts, view)


def _rates(parts: Floats, view: NDArray[np.str_]) -> Rates:
    values = parts.sum(axis=0)
    read = {str(name): float(values[view == name].sum() / values.sum()) for name in np.unique(view)}
    return Rates(parts, {name: round(share, 4) for name, share in read.items() if share})


def _newest(rates: Floats, size: float) -> Floats:
    """The rates of the newest samples that fill `size`; nothing of the others."""
    newer = np.cumsum(rates[::-1])[::-1] - rates
    return np.clip(size - newer, 0, rates)


def draw(rates: Floats, size: int, generator: np.random.Generator) -> Indices:
    """Draw `size` samples: each floor or ceil of its rate times, in a random order (systematic sampling, Madow 1949).

    Where `rates` has a row for each of several parts, which share no sample, the same holds for a whole part.
    """
    parts = np.atleast_2d(rates)
    order = np.concatenate([generator.permutation(np.flatnonzero(part)) for part in parts])
    edges = np.cumsum(parts.sum(axis=0)[order] * (size / parts.sum()))
    edges[-1] = size
    counts = np.diff(np.floor(edges + generator.random()), prepend=0).astype(np.int64)
    return generator.permutation(np.repeat(order, counts))


def passes(rates: Floats, total: int, seed: int) -> Iterator[Indices]:
    """Yield pass after pass until `total` samples are drawn; the last one may be part of a pass."""
    size = max(1, round(float(rates.sum())))
    number = 0
    while total > 0:
        generator = np.random.default_rng((seed, number))
        yield draw(rates, min(size, total), generator)
        total -= size
        number += 1


def in_span(rates: Floats, span: tuple[float, float]) -> Floats:
    """The rates of the samples between two parts of all that is read, by age; the others are not read."""
    place = (np.cumsum(rates) - rates / 2) / max(1e-12, float(rates.sum()))
    return np.where((place >= span[0]) & (place <= span[1]), rates, 0.0)

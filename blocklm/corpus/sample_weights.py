"""How much each change should teach: what is new and what has lasted more, what was soon replaced less.

The weight of a hunk is clip(2^(-age / H), f, 1) · (a + (1 - a) · s) · q: its age at the end of training against a half-life
H, the share s of its lines that stand in the files there, and what the rules, the path and the author say, q. All of it is
measured on what trains; nothing after that has a say. Training on everything and weighting beat training on the newest
alone (Time is Encoded in Weights, arXiv 2312.13401; 2305.04106).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pathspec import GitIgnoreSpec

from blocklm.config.sampling import SamplingArguments
from blocklm.git.authors import pseudonym

MIN_HALF_LIFE_DAYS = 30.0
AGE_BINS = 8
FLOOR, FLOOR_STEP = 0.1, 0.05
MIN_EFFECTIVE_SHARE = 0.5  # of the samples, as Kish counts them
LOST_SHARE = 0.3  # what a hunk counts of which no line is left
MIN_LINE_CHARS = 20  # shorter lines stand everywhere

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SampleWeights:
    """A weight for each hunk that trains, 1 on average, and how it came about (the manifest's `corpus.weights`)."""

    values: Floats
    report: dict[str, Any]


def lines_at_cut(diffs: Sequence[str]) -> frozenset[str]:
    """The lines of the files at the end of training, each an added line of a diff, stripped; short ones left out."""
    return frozenset(line for diff in diffs for line in long_lines(diff.split("\n")))


def long_lines(lines: Sequence[str]) -> list[str]:
    """The added lines that are long enough to tell one place from another, stripped."""
    return [text for line in lines if line[:1] == "+" and len(text := line[1:].strip()) >= MIN_LINE_CHARS]


def weight_samples(
    ages: Floats, kept: Floats, lines: Floats, quality: Floats, sampling: SamplingArguments
) -> SampleWeights:
    """Weigh the hunks that train.

    Args:
        ages: days from each hunk's landing to the end of training.
        kept: how many of its telling lines stand in the files there.
        lines: how many telling lines it has.
        quality: what rules, path and author say of it.
        sampling: which of age and survival count.
    """
    curve = survival_curve(ages, kept, lines)
    half_life = _half_life(sampling.recency, curve, float(ages.max(initial=0.0)))
    lasted = kept.sum() / max(1.0, lines.sum())
    survived = np.divide(kept, lines, out=np.full_like(kept, lasted), where=lines > 0)
    last = quality * (LOST_SHARE + (1 - LOST_SHARE) * survived) if sampling.survival else quality
    recency = np.ones_like(ages) if half_life is None else np.exp2(-ages / half_life)
    floor = FLOOR
    while (
        effective_size(last * np.clip(recency, floor, 1)) < MIN_EFFECTIVE_SHARE * effective_size(quality) and floor < 1
    ):
        floor = min(1.0, floor + FLOOR_STEP)
    values = last * np.clip(recency, floor, 1)
    report = {
        "half_life_days": None if half_life is None else round(half_life, 1),
        "floor": None if half_life is None else round(floor, 2),
        "survival": [[round(age, 1), round(share, 3)] for age, share in curve],
        "effective_samples": round(effective_size(values)),
        "of": len(values),
    }
    return SampleWeights(values / max(values.mean(), 1e-12) if len(values) else values, report)


def survival_curve(ages: Floats, kept: Floats, lines: Floats) -> list[tuple[float, float]]:
    """The share of added lines still there, by age in days: up to eight bins, each of as many factors of age."""
    if not lines.sum():
        return []
    edges = np.geomspace(1, max(2.0, float(ages.max()) + 1), AGE_BINS + 1)
    bins = np.clip(np.searchsorted(edges, ages, side="right") - 1, 0, AGE_BINS - 1)
    totals = np.bincount(bins, weights=lines, minlength=AGE_BINS)
    alive = np.bincount(bins, weights=kept, minlength=AGE_BINS)
    age = np.bincount(bins, weights=ages * lines, minlength=AGE_BINS)
    return [(age[at] / totals[at], alive[at] / totals[at]) for at in range(AGE_BINS) if totals[at]]


def effective_size(weights: Floats) -> float:
    """How many equal weights would vary as little: (Σw)² / Σw² (Kish 1965)."""
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12))


def _half_life(recency: str, curve: Sequence[tuple[float, float]], span: float) -> float | None:
    """Days; at `auto` the age at which half of the lines are gone, or the whole span where that never happens."""
    if recency in ("off", "newest"):
        return None
    if recency != "auto":
        return float(recency)
    crossed = span if not curve or curve[0][1] >= 0.5 else 0.0
    for (before, more), (after, less) in pairwise(curve):
        if more >= 0.5 > less:
            crossed = before + (after - before) * (more - 0.5) / (more - less)
            break
    return max(MIN_HALF_LIFE_DAYS, crossed)


class Preferences:
    """What a user thinks of paths and authors.

    Args:
        sampling: the keys `boost` and `author_weights`.
        salts: the first commit of each repository, by which its authors got their pseudonyms.
    """

    def __init__(self, sampling: SamplingArguments, salts: dict[str, str]) -> None:
        boost, authors = sampling.boost or {}, sampling.author_weights or {}
        assert isinstance(boost, dict) and isinstance(authors, dict), "the recipe was read"
        self._paths = [(GitIgnoreSpec.from_lines([glob]), float(weight)) for glob, weight in boost.items()]
        self._authors = dict(_pseudonyms(authors, salts))

    @lru_cache(maxsize=1 << 16)  # noqa: B019  (lives as long as one rendering)
    def of_path(self, path: str) -> float:
        """The weight of a path; where several globs match, the last one's."""
        return next((weight for spec, weight in reversed(self._paths) if spec.match_file(path)), 1.0)

    def of(self, path: str, author: str) -> float:
        """The weight of a change."""
        return self.of_path(path) * self._authors.get(author, 1.0)


def _pseudonyms(authors: dict[str, float], salts: dict[str, str]) -> Iterator[tuple[str, float]]:
    for named, weight in authors.items():
        name, _, mail = named.removesuffix(">").partition("<")
        for salt in salts.values():
            yield pseudonym(name.strip(), mail.strip(), bytes.fromhex(salt)), float(weight)

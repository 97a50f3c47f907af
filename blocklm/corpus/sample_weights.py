"""Computes the weight of each training hunk: recent and lasting changes weigh more, soon replaced ones less.

The weight of a hunk is clip(2^(-age / H), f, 1) · (a + (1 - a) · s) · q. Age and half-life H are in days at the end of
training, s is the share of its lines that are still in the files there, and q is the weight that filters, path and
author give. All of it is measured on training data; later commits change nothing. Training on everything with weights
beats training on the newest alone (Time is Encoded in Weights, arXiv 2312.13401; 2305.04106).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray
from pathspec import GitIgnoreSpec

from blocklm.config.sampling import SamplingArguments
from blocklm.git.authors import pseudonym

MIN_HALF_LIFE_DAYS = 30.0
AGE_BINS = 8
FLOOR, FLOOR_STEP = 0.1, 0.05
MIN_EFFECTIVE_SHARE = 0.5  # of the effective sample size (Kish) that the weights without age and survival have
LOST_SHARE = 0.3  # factor of a hunk of which no line is left
MIN_LINE_CHARS = 20  # shorter lines occur everywhere

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SampleWeights:
    """The weights of the training hunks.

    Attributes:
        values: weight of each hunk, 1 on average.
        report: how the weights were computed, the manifest's `corpus.weights`.
    """

    values: Floats
    report: dict[str, Any]


def lines_at_cut(diffs: Sequence[str]) -> frozenset[str]:
    """Collect the long lines of the files at the end of training, stripped.

    Args:
        diffs: files, each as a diff that adds all its lines.
    """
    return frozenset(line for diff in diffs for line in long_lines(diff.split("\n")))


def long_lines(lines: Sequence[str]) -> list[str]:
    """Select the added lines that are long enough to identify a place, stripped."""
    return [text for line in lines if line[:1] == "+" and len(text := line[1:].strip()) >= MIN_LINE_CHARS]


def weight_samples(
    ages: Floats, kept: Floats, lines: Floats, quality: Floats, sampling: SamplingArguments
) -> SampleWeights:
    """Compute the weights of the training hunks.

    Args:
        ages: age of each hunk in days at the end of training.
        kept: number of its long lines that are still in the files there.
        lines: number of its long lines.
        quality: weight that filters, path and author give it.
        sampling: keys `recency` and `survival` of the recipe.
    """
    curve = survival_curve(ages, kept, lines)
    half_life = _half_life(sampling.recency, curve, float(ages.max(initial=0.0)))
    lasted = kept.sum() / max(1.0, lines.sum())
    survived = np.divide(kept, lines, out=np.full_like(kept, lasted), where=lines > 0)
    durable = quality * (LOST_SHARE + (1 - LOST_SHARE) * survived) if sampling.survival else quality
    recency = np.ones_like(ages) if half_life is None else np.exp2(-ages / half_life)
    floor = FLOOR
    while (
        effective_size(durable * np.clip(recency, floor, 1)) < MIN_EFFECTIVE_SHARE * effective_size(quality)
        and floor < 1
    ):
        floor = min(1.0, floor + FLOOR_STEP)
    values = durable * np.clip(recency, floor, 1)
    report = {
        "half_life_days": None if half_life is None else round(half_life, 1),
        "floor": None if half_life is None else round(floor, 2),
        "survival": [[round(age, 1), round(share, 3)] for age, share in curve],
        "effective_samples": round(effective_size(values)),
        "of": len(values),
    }
    return SampleWeights(values / max(values.mean(), 1e-12) if len(values) else values, report)


def survival_curve(ages: Floats, kept: Floats, lines: Floats) -> list[tuple[float, float]]:
    """Compute the share of added lines that still exist, by age in days, in up to eight bins of geometric width."""
    if not lines.sum():
        return []
    edges = np.geomspace(1, max(2.0, float(ages.max()) + 1), AGE_BINS + 1)
    bins = np.clip(np.searchsorted(edges, ages, side="right") - 1, 0, AGE_BINS - 1)
    totals = np.bincount(bins, weights=lines, minlength=AGE_BINS)
    alive = np.bincount(bins, weights=kept, minlength=AGE_BINS)
    age = np.bincount(bins, weights=ages * lines, minlength=AGE_BINS)
    return [(age[index] / totals[index], alive[index] / totals[index]) for index in range(AGE_BINS) if totals[index]]


def effective_size(weights: Floats) -> float:
    """Compute the effective sample size of some weights: (Σw)² / Σw² (Kish 1965)."""
    return float(weights.sum() ** 2 / max(float((weights**2).sum()), 1e-12))


def _half_life(recency: str, curve: Sequence[tuple[float, float]], span: float) -> float | None:
    """Choose the half-life in days; None if age does not count.

    `auto` is the age at which half of the lines are gone, or the span of the history if that never happens.
    """
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
    """The weights that a user gives to paths and authors.

    Args:
        sampling: keys `boost` and `author_weights` of the recipe.
        salts: first commit of each repository, from which the pseudonyms of its authors are derived.
    """

    def __init__(self, sampling: SamplingArguments, salts: dict[str, str]) -> None:
        boost, authors = sampling.boost or {}, sampling.author_weights or {}
        assert isinstance(boost, dict) and isinstance(authors, dict), "the recipe was read"
        self._paths = [(GitIgnoreSpec.from_lines([glob]), float(weight)) for glob, weight in boost.items()]
        self._authors = dict(_pseudonyms(authors, salts))

    @lru_cache(maxsize=1 << 16)  # noqa: B019  (lives as long as one rendering)
    def of_path(self, path: str) -> float:
        """Look up the weight of a path; of several matching globs the last one counts."""
        return next((weight for spec, weight in reversed(self._paths) if spec.match_file(path)), 1.0)

    def of(self, path: str, author: str) -> float:
        """Compute the weight of a change: that of its path times that of its author's pseudonym."""
        return self.of_path(path) * self._authors.get(author, 1.0)


def _pseudonyms(authors: dict[str, float], salts: dict[str, str]) -> Iterator[tuple[str, float]]:
    for author, weight in authors.items():
        name, _, mail = author.removesuffix(">").partition("<")
        for salt in salts.values():
            yield pseudonym(name.strip(), mail.strip(), bytes.fromhex(salt)), float(weight)


def first_commits(changes: Dataset) -> dict[str, str]:
    """Find the first commit of each repository."""
    table = changes.data.table.select(["repo", "commit"])
    first = table.append_column("row", pa.array(range(len(table)))).group_by("repo").aggregate([("row", "min")])
    return {row["repo"]: changes[row["row_min"]]["commit"] for row in first.to_pylist()}

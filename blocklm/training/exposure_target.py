"""Draws samples until the training has met each definition of the repository a number of times.

The sample whose definitions are least met comes first. Its value is its weight, from recency, survival, path and
author, times the sum over its definitions of the part of the target that is missing, each weighed by the logarithm of
how many samples name it. A sample that was drawn before is worth less. Each view keeps its share.

No value ever rises, so the best sample is found by looking again only at the former best (Minoux 1978, lazy greedy).
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Self

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from blocklm.errors import UserError
from blocklm.training.curriculum import Floats, Indices

WORD = re.compile(r"\w+")
REST = 1e-6  # value of a sample without a definition that is missing: it comes after all others


@dataclass(frozen=True)
class NamedDefinitions:
    """Which definitions the samples name.

    Attributes:
        views: view of each sample.
        named: numbers of the definitions that each sample names, as far as the corpus stores its text.
        count: number of definitions.
    """

    views: NDArray[np.str_]
    named: Sequence[NDArray[np.int32]]
    count: int

    @classmethod
    def of(cls, samples: Dataset, names: Collection[str]) -> Self:
        """Look for the names in the prompts and completions of samples.

        Raises:
            UserError: no sample has one of the names.
        """
        number = {name: place for place, name in enumerate(sorted(names))}
        named = [
            np.array(
                sorted({number[word] for word in WORD.findall(f"{prompt}\n{completion}") if word in number}), np.int32
            )
            for batch in samples.select_columns(["prompt", "completion"]).iter(1000)
            for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True)
        ]
        if not any(map(len, named)):
            raise UserError(
                "`target_exposures` finds no definition in the training samples: none is in a language with a grammar",
                "train without `target_exposures`",
            )
        return cls(np.array(samples["view"][:]), named, len(number))


@dataclass(frozen=True)
class ExposureTarget:
    """Draws samples until each definition was met `times` times, or as many samples are drawn as asked for.

    Attributes:
        definitions: which definitions the samples name.
        times: how often each definition should be met.
        ends: whether drawing ends once all are met.
    """

    definitions: NamedDefinitions
    times: int
    ends: bool

    def passes(self, rates: Floats, total: int, seed: int) -> list[Indices]:
        """Draw at most `total` samples, in passes of the size that their rates have; a pass is in random order.

        Args:
            rates: mean number of times that each sample is read in a pass, of shape (parts, samples). The share of each
                part and view is kept.
            total: most samples to draw.
            seed: decides between samples of the same value.
        """
        parts = np.atleast_2d(rates)
        size = max(1, round(float(parts.sum())))
        choice = _Choice(self.definitions, parts, self.times, np.random.default_rng(seed))
        drawn = list[int]()
        while len(drawn) < total and not (self.ends and choice.is_reached):
            drawn.append(choice.draw())
        starts = range(0, len(drawn), size)
        return [
            np.random.default_rng((seed, number)).permutation(np.array(drawn[start : start + size], np.int64))
            for number, start in enumerate(starts)
        ]


class _Choice:
    """Chooses one sample after the other, and keeps what was drawn and met so far."""

    def __init__(self, definitions: NamedDefinitions, parts: Floats, times: int, chance: np.random.Generator) -> None:
        rates, groups = parts.sum(axis=0), list(_groups(definitions.views, parts))
        shares = np.array([rates[rows].sum() for rows in groups])
        self._named, self._times, self._shares = definitions.named, times, shares / shares.sum()
        self._weights = np.zeros(len(rates))
        for rows in groups:
            self._weights[rows] = rates[rows] / rates[rows].mean()
        named = np.concatenate([definitions.named[row] for rows in groups for row in rows])
        self._importance = np.log1p(np.bincount(named, minlength=definitions.count))
        self._missing = self._importance.copy()
        self._met = np.zeros(definitions.count, np.int64)
        self._read, self._drawn = np.zeros(len(rates), np.int64), np.zeros(len(groups), np.int64)
        self._heaps = [
            [
                (-self._value(int(row)), int(tie), int(row))
                for row, tie in zip(rows, chance.permutation(len(rows)), strict=True)
            ]
            for rows in groups
        ]  # candidates of each part and view by their last known value, the best first
        for heap in self._heaps:
            heapify(heap)

    @property
    def is_reached(self) -> bool:
        """Whether each definition that a candidate names has been met as often as wanted."""
        return bool(self._importance.any()) and not self._missing.any()

    def draw(self) -> int:
        """Draw a sample of the part and view whose share is missing most."""
        group = int(np.argmax(self._shares * (self._drawn.sum() + 1) - self._drawn))
        heap = self._heaps[group]
        while True:
            _, tie, row = heap[0]
            value = -self._value(row)
            heapreplace(heap, (value, tie, row))
            if heap[0][2] == row:
                break
        self._drawn[group] += 1
        self._read[row] += 1
        names = self._named[row]
        self._met[names] += 1
        self._missing[names] = self._importance[names] * np.maximum(0, 1 - self._met[names] / self._times)
        return row

    def _value(self, row: int) -> float:
        return float(self._weights[row] * (REST + self._missing[self._named[row]].sum()) / (1 + self._read[row]))


def _groups(views: NDArray[np.str_], parts: Floats) -> Iterator[Indices]:
    """Yield the samples of each part and view that may be read."""
    for part in parts:
        for view in np.unique(views[part > 0]):
            yield np.flatnonzero((part > 0) & (views == view))

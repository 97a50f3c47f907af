"""Finds what a repository of a list repeats of another: a fork's commits, and code that was copied in.

Of a commit that several have, the first in the list keeps all. Of hunks that are equal, or near-duplicates, one is
kept: the one of test before that of validation before that of training, and then the newer one. So whatever the exam
of any repository asks is taught by none. Files at the end of training are compared with each other in the same way.

Memory holds a few numbers for each text (200 bytes), the texts of one repository at a time, and those pairs that
MinHash proposes across repositories.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blocklm.corpus.curation import MIN_NEAR_CHARS
from blocklm.corpus.minhash import BANDS, ShingledTexts, band_keys
from blocklm.corpus.splits import NAMES

KEPT, SHARED_COMMIT, DUPLICATE, NEAR_DUPLICATE, LEAK = REASONS = (
    "kept", "shared_commit", "duplicate", "near_duplicate", "leak",
)  # fmt: skip
Reasons = NDArray[np.str_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JointText:
    """A text that a repository would teach or ask.

    Attributes:
        text: the text.
        key: number that equal texts share.
        split: name of its split.
        landed: landing time in seconds.
        commit: number of the commit that wrote it; 0 for a file, which no single commit wrote.
    """

    text: str
    key: int
    split: str
    landed: int
    commit: int


@dataclass(frozen=True)
class RepositoryTexts:
    """The texts of a repository, which can be read more than once, and the numbers of all its commits."""

    texts: Iterable[JointText]
    commits: NDArray[np.uint64]


def commit_number(sha: str) -> int:
    """The number that stands for a commit: the first 64 bits of its id."""
    return int(sha[:16], 16)


def find_repeated(repositories: Sequence[RepositoryTexts], disabled: frozenset[str]) -> list[Reasons]:
    """Find the reason to leave out each text of each repository, or `kept`.

    Args:
        repositories: the repositories in the order of the list.
        disabled: rules that are off; a leak is left out whatever they are.
    """
    return _Comparison(repositories, disabled).reasons()


class _Comparison:
    """The numbers of all texts, by index: repository after repository."""

    def __init__(self, repositories: Sequence[RepositoryTexts], disabled: frozenset[str]) -> None:
        self._repositories, self._disabled = repositories, disabled
        columns = [_columns(repository.texts) for repository in repositories]
        self._sizes = [len(part["key"]) for part in columns]
        self._repository = np.repeat(np.arange(len(columns)), self._sizes)
        joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
        self._key, self._bands, self._commit = joined["key"], joined["bands"], joined["commit"]
        self._near, self._rank = joined["near"], joined["rank"]
        # Whatever comes later in this order is kept: held-out texts, then newer ones, then those listed first.
        self._order = np.lexsort((-self._repository, joined["landed"], joined["rank"]))
        self._reason = np.full(len(self._key), KEPT, dtype="<U14")

    def reasons(self) -> list[Reasons]:
        self._drop_shared_commits()
        for of_files in (False, True):
            compared = (self._commit == 0) == of_files
            self._drop_equal(compared)
            self._drop_near(compared)
        return np.split(self._reason, np.cumsum(self._sizes)[:-1])

    def _drop_shared_commits(self) -> None:
        earlier = np.empty(0, np.uint64)
        for number, repository in enumerate(self._repositories):
            own = self._repository == number
            self._reason[own & (self._commit != 0) & np.isin(self._commit, earlier)] = SHARED_COMMIT
            earlier = np.union1d(earlier, repository.commits)

    def _drop_equal(self, compared: Mask) -> None:
        order = self._order[(compared & (self._reason == KEPT))[self._order]][::-1]
        _, first, group = np.unique(self._key[order], return_index=True, return_inverse=True)
        for older, newer in zip(order.tolist(), order[first[group]].tolist(), strict=True):
            self._drop(older, newer, DUPLICATE)

    def _drop_near(self, compared: Mask) -> None:
        chosen = np.flatnonzero(compared & self._near & (self._reason == KEPT))
        chosen = chosen[self._proposed(chosen)]
        texts = self._read(chosen)
        order = [text for text in self._order.tolist() if text in texts]
        for older, newer in ShingledTexts([texts[text] for text in order]).newer_duplicates().items():
            self._drop(order[older], order[newer], NEAR_DUPLICATE)

    def _drop(self, older: int, newer: int, reason: str) -> None:
        if self._repository[older] == self._repository[newer]:
            return  # its own corpus has decided on them
        if self._rank[older] != self._rank[newer]:
            self._reason[older] = LEAK
        elif reason not in self._disabled:
            self._reason[older] = reason

    def _proposed(self, chosen: NDArray[np.int64]) -> Mask:
        """Which of some texts share a band with a text of another repository."""
        proposed, repository = np.zeros(len(chosen), bool), self._repository[chosen]
        for band in range(BANDS if len(chosen) else 0):
            _, group = np.unique(self._bands[chosen, band], return_inverse=True)
            lowest = np.full(group.max() + 1, len(self._sizes))
            highest = np.full(group.max() + 1, -1)
            np.minimum.at(lowest, group, repository)
            np.maximum.at(highest, group, repository)
            proposed |= (lowest < highest)[group]
        return proposed

    def _read(self, chosen: NDArray[np.int64]) -> dict[int, str]:
        """Read some texts again, by their index."""
        starts = np.cumsum([0, *self._sizes])
        wanted, texts = set(chosen.tolist()), dict[int, str]()
        for start, end, repository in zip(starts[:-1].tolist(), starts[1:].tolist(), self._repositories, strict=True):
            if not wanted.isdisjoint(range(start, end)):
                texts |= {row: one.text for row, one in enumerate(repository.texts, start) if row in wanted}
        return texts


def _columns(texts: Iterable[JointText]) -> dict[str, NDArray[Any]]:
    """The numbers of the texts of one repository, an array each."""
    numbers = list[tuple[int, int, int, int, bool]]()

    def read() -> Iterator[str]:
        for one in texts:
            near = len(one.text) >= MIN_NEAR_CHARS
            numbers.append((one.key, NAMES.index(one.split), one.landed, one.commit, near))
            yield one.text

    bands, sizes = band_keys(read())
    key, rank, landed, commit, near = zip(*numbers, strict=True) if numbers else ((), (), (), (), ())
    return {
        "bands": bands,
        "key": np.array(key, np.uint64),
        "rank": np.array(rank, np.int8),
        "landed": np.array(landed, np.int64),
        "commit": np.array(commit, np.uint64),
        "near": np.array(near, bool) & (sizes > 0),
    }

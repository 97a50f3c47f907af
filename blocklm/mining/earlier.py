"""Finds the earlier dataset of a repository whose first batches can be kept for its history now."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa

from blocklm import cache
from blocklm.git.commits import MALFORMED
from blocklm.git.repository import Repository
from blocklm.git.rev_list import History, missing_objects
from blocklm.mining.change_rows import BATCH_COMMITS
from blocklm.mining.rows_file import Batch, read_rows
from blocklm.mining.secrets.known import Key


@dataclass(frozen=True)
class Earlier:
    """A dataset of another head, whose first batches are also the first of this history.

    Attributes:
        folder: folder of the dataset.
        batches: number of batches to keep.
        commits: number of commits in these batches.
        unreadable: reason for each of these commits that cannot be read, by its id.
        outgrown: whether the dataset is of the same repository, and its head part of this history.
    """

    folder: Path
    batches: int
    commits: int
    unreadable: dict[str, str]
    outgrown: bool

    def first_batches(self, key: Key) -> Iterator[Batch]:
        """The batches to keep."""
        return islice(read_rows(self.folder, key), self.batches)


def find_earlier(folder: Path, key: Key, repository: Repository, history: History) -> Earlier | None:
    """Find the dataset with the same settings, finished or not, that shares most commits; None if none shares any.

    Args:
        folder: folder of the dataset to build.
        key: key of the corpus directory's digests.
        repository: the mined repository.
        history: the commits to mine.
    """
    candidates = []
    settings = folder.name.rpartition("-")[0]
    pattern = re.compile(rf"{re.escape(settings)}-[0-9a-f]+")  # no user's copy, since an outgrown dataset is deleted
    for candidate in folder.parent.glob(f"{settings}-*"):
        if not pattern.fullmatch(candidate.name):
            continue
        stored = cache.read(candidate)
        if stored is None or may_read_better(repository, stored.report):
            continue
        batches, commits = _count_shared(read_rows(candidate, key), history.shas)
        reasons = stored.report["repository"]["unreadable"]
        kept = set(history.shas[:commits])
        unreadable = {sha: why for sha, why in reasons.items() if sha in kept}
        source = stored.report["repository"]
        # A repository of the same name shares the folder, and a fork has the head of its upstream in its history.
        outgrown = source["path"] == repository.spelled_path and source["head"] in history.shas
        candidates.append(Earlier(candidate, batches, commits, unreadable, outgrown))
    for candidate in cache.find_unfinished(folder):
        batches, commits = _count_shared(_readable_batches(read_rows(candidate, key)), history.shas)
        candidates.append(Earlier(candidate, batches, commits, unreadable={}, outgrown=False))
    best = max(candidates, key=lambda earlier: (earlier.commits, earlier.outgrown), default=None)
    return best if best is not None and best.commits else None


def may_read_better(repository: Repository, report: dict[str, Any]) -> bool:
    """Whether a commit that was unreadable may be readable now.

    A commit stays unreadable if it is malformed, or if its missing object is still missing. Other causes (a corrupt
    object, a killed git) may be gone, so such commits are read again.
    """
    missing = report["missing"]
    if missing_objects(repository, missing) != missing:
        return True
    reasons = report["repository"]["unreadable"].values()
    return any(not why.startswith(MALFORMED) and not any(name in why for name in missing) for why in reasons)


def _readable_batches(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the complete batches of an unfinished dataset, up to the first unreadable commit.

    The reasons for unreadable commits are written last, so an unfinished dataset lacks them.
    """
    try:
        for batch in batches:
            if "unreadable" in batch.rows.column("drop_reason").to_pylist():
                return
            yield batch
    except (OSError, pa.ArrowInvalid):
        return


def _count_shared(batches: Iterable[Batch], shas: Sequence[str]) -> tuple[int, int]:
    """The numbers of batches, and of commits in them, that can be kept.

    The history `shas` begins with these commits and would end a batch there too. Every secret that was replaced in
    them is also found in them: a secret that only a removed commit revealed is none now, and rows with it are mined
    again.
    """
    shared = 0
    digests: set[str] = set()
    ends: list[tuple[int, int, tuple[str, ...]]] = []  # batches, commits, digests replaced in the last batch
    for number, batch in enumerate(batches, 1):
        commits = batch.rows.column("commit").unique().to_pylist()
        if commits != list(shas[shared : shared + len(commits)]):
            break
        shared += len(commits)
        digests.update(secret.digest for secret in batch.found)
        ends.append((number, shared, batch.replaced))
    usable = takewhile(lambda end: digests.issuperset(end[2]), ends)
    return max(((number, count) for number, count, _ in usable if count % BATCH_COMMITS == 0), default=(0, 0))

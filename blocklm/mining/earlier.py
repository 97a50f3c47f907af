"""What an earlier dataset of a repository holds of its history now: whole batches from the beginning, to be kept."""

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
    """A dataset of another head, and how many of its batches and commits this history begins with.

    It is outgrown when its head is part of this history.
    """

    folder: Path
    batches: int
    commits: int
    unreadable: dict[str, str]
    outgrown: bool

    def first_batches(self, key: Key) -> Iterator[Batch]:
        """The batches to keep."""
        return islice(read_rows(self.folder, key), self.batches)


def find_earlier(folder: Path, key: Key, repository: Repository, listed: History) -> Earlier | None:
    """Of the datasets of other heads with the same settings, and of unfinished ones, the one that shares most.

    Args:
        folder: where the dataset of this head will stand.
        key: of the corpus directory's digests.
        repository: whose history it is.
        listed: its commits.
    """
    found = []
    settings = folder.name.rpartition("-")[0]
    ours = re.compile(rf"{re.escape(settings)}-[0-9a-f]+")  # and no copy: the one that is outgrown is deleted
    for candidate in folder.parent.glob(f"{settings}-*"):
        if not ours.fullmatch(candidate.name):
            continue
        stored = cache.read(candidate)
        if stored is None or may_read_better(repository, stored[1]):
            continue
        batches, shared = _shared(read_rows(candidate, key), listed.shas)
        known = stored[1]["repository"]["unreadable"]
        kept = set(listed.shas[:shared])
        unreadable = {sha: why for sha, why in known.items() if sha in kept}
        outgrown = stored[1]["repository"]["head"] in listed.shas
        found.append(Earlier(candidate, batches, shared, unreadable, outgrown))
    for candidate in cache.unfinished(folder):
        batches, shared = _shared(_salvaged(read_rows(candidate, key)), listed.shas)
        found.append(Earlier(candidate, batches, shared, unreadable={}, outgrown=False))
    best = max(found, key=lambda earlier: earlier.commits, default=None)
    return best if best is not None and best.commits else None


def may_read_better(repository: Repository, report: dict[str, Any]) -> bool:
    """Whether a commit that was unreadable may be readable now.

    A missing object that still is missing explains its commits, and a malformed commit stays one. Anything else (a corrupt
    object, a killed git) may have passed, which only reading again can tell.
    """
    missing = report["missing"]
    if missing_objects(repository, missing) != missing:
        return True
    reasons = report["repository"]["unreadable"].values()
    return any(not why.startswith(MALFORMED) and not any(name in why for name in missing) for why in reasons)


def _salvaged(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The whole batches before the first unreadable commit: its reason was to be written at the end, and was not."""
    try:
        for batch in batches:
            if "unreadable" in batch.rows.column("drop_reason").to_pylist():
                return
            yield batch
    except (OSError, pa.ArrowInvalid):
        return


def _shared(batches: Iterable[Batch], shas: Sequence[str]) -> tuple[int, int]:
    """How many batches, and commits in them, can be kept.

    The history `shas` begins with them and would end a batch there too. And what was replaced in them is found in this
    history: what only commits gave away that it has no more is no secret now, and what holds it is read again.
    """
    seen = 0
    found: set[str] = set()
    ends: list[tuple[int, int, tuple[str, ...]]] = []  # batches, commits, what was replaced in the last of them
    for number, batch in enumerate(batches, 1):
        here = batch.rows.column("commit").unique().to_pylist()
        if here != list(shas[seen : seen + len(here)]):
            break
        seen += len(here)
        found.update(secret.digest for secret in batch.found)
        ends.append((number, seen, batch.replaced))
    known = takewhile(lambda end: found.issuperset(end[2]), ends)
    return max(((number, commits) for number, commits, _ in known if commits % BATCH_COMMITS == 0), default=(0, 0))

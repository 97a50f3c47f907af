"""The hunks that passed the filters, and the order in which their commits landed."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.landing_order import landing_positions
from blocklm.mining.filters import REVERTED_COMMIT
from blocklm.mining.hunks import Hunk, hunks_of
from blocklm.mining.landing_times import landing_times


@dataclass(slots=True)
class CandidateHunk:
    """A hunk that passed the filters, and the verdict that curation gives it.

    Attributes:
        row: index of its change in the dataset.
        hunk: number of the hunk in its change, from 0.
        commit: id of its commit.
        seq: position of its commit in the history.
        weight: weight in training, 1 for code.
        text: all lines that it adds.
        key: digest of its removed and added lines; equal hunks have equal keys.
        patch: digest of its path and all its lines, context included.
        split: name of its split; None in a gap between splits.
        reason: rule that dropped it; None if it is kept.
        seen_lines: whether every line of a held-out hunk also occurs in training.
    """

    row: int
    hunk: int
    commit: str
    seq: int
    weight: float
    text: str
    key: bytes
    patch: bytes
    split: str | None = None
    reason: str | None = None
    seen_lines: bool = False


@dataclass(frozen=True)
class LandingOrder:
    """The landing of every commit of a history.

    Attributes:
        shas: commit ids.
        repos: repository name of each commit.
        positions: landing position of each commit.
        times: landing time of each commit in seconds, never falling.
        reverted: landing position of the first revert, by the id of the reverted commit.
    """

    shas: list[str]
    repos: list[str]
    positions: list[int]
    times: list[int]
    reverted: dict[str, int]

    def last_before(self, position: int) -> dict[str, str]:
        """Find the last commit of each repository that landed before a position."""
        landed = sorted((place, seq) for seq, place in enumerate(self.positions) if place < position)
        return {self.repos[seq]: self.shas[seq] for _, seq in landed}


def candidate_hunks(dataset: Dataset) -> list[CandidateHunk]:
    """Collect the hunks that passed the filters, oldest first."""
    table = dataset.data.table.select(["drop_reason", "commit", "seq", "path", "weight", "diff", "hunk_reasons"])
    passed = pc.is_null(table["drop_reason"])
    candidates = []
    for row, change in zip(pc.indices_nonzero(passed).to_pylist(), _iterate_rows(table.filter(passed)), strict=True):
        for number, (hunk, reason) in enumerate(zip(hunks_of(change["diff"]), change["hunk_reasons"], strict=True)):
            if reason is None:
                candidates.append(_candidate(row, number, hunk, change))
    return candidates


def _iterate_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _candidate(row: int, number: int, hunk: Hunk, change: dict[str, Any]) -> CandidateHunk:
    key = _digest(hunk.removed_text, hunk.added_text)
    patch = _digest(change["path"].encode(), hunk.whole_text)
    return CandidateHunk(
        row, number, change["commit"], change["seq"], change["weight"], "\n".join(hunk.added), key, patch
    )


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=12).digest()


def landing_order(dataset: Dataset) -> LandingOrder:
    """Find where and when each commit landed, and which commits were reverted."""
    table = dataset.data.table.select(["seq", "repo", "commit", "parents", "commit_time", "drop_reason", "message"])
    _, first = np.unique(table["seq"].to_numpy(), return_index=True)
    commits = table.take(pa.array(first))
    shas: list[str] = commits["commit"].to_pylist()
    positions = landing_positions(list(zip(shas, commits["parents"].to_pylist(), strict=True)))
    reverted: dict[str, int] = {}
    for row in pc.indices_nonzero(pc.equal(pc.fill_null(commits["drop_reason"], ""), "revert")).to_pylist():
        for prefix in REVERTED_COMMIT.findall(commits["message"][row].as_py()):
            for sha in (sha for sha in shas if sha.startswith(prefix)):
                reverted[sha] = min(positions[row], reverted.get(sha, positions[row]))
    return LandingOrder(
        shas=shas,
        repos=commits["repo"].to_pylist(),
        positions=positions,
        times=list(landing_times(table).values()),
        reverted=reverted,
    )

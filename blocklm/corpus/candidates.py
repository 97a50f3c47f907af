"""The hunks that hygiene keeps, one by one, and what of the commits around them decides their fate."""

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
    """A hunk that hygiene keeps, and what is found out about it.

    `row` is its change's place in the dataset, `text` all that it adds.
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
    """All commits in landing order: where each landed, when (seconds, never falling), and where it was taken back."""

    shas: list[str]
    repos: list[str]
    positions: list[int]
    times: list[int]
    reverted: dict[str, int]

    def last_before(self, position: int) -> dict[str, str]:
        """The last commit of each repository that landed before a position: the state of its files there."""
        landed = sorted((where, seq) for seq, where in enumerate(self.positions) if where < position)
        return {self.repos[seq]: self.shas[seq] for _, seq in landed}


def candidate_hunks(dataset: Dataset) -> list[CandidateHunk]:
    """The hunks that hygiene keeps, oldest first."""
    table = dataset.data.table.select(["drop_reason", "commit", "seq", "path", "weight", "diff", "hunk_reasons"])
    rows = pc.indices_nonzero(pc.is_null(table["drop_reason"]))
    units = []
    for row, change in zip(rows.to_pylist(), _rows(table.take(rows)), strict=True):
        for number, (hunk, reason) in enumerate(zip(hunks_of(change["diff"]), change["hunk_reasons"], strict=True)):
            if reason is None:
                units.append(_unit(row, number, hunk, change))
    return units


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1000):
        yield from batch.to_pylist()


def _unit(row: int, number: int, hunk: Hunk, change: dict[str, Any]) -> CandidateHunk:
    key = _digest(hunk.removed_text, hunk.added_text)
    patch = _digest(change["path"].encode(), hunk.whole_text)
    return CandidateHunk(
        row, number, change["commit"], change["seq"], change["weight"], "\n".join(hunk.added), key, patch
    )


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=12).digest()


def landing_order(dataset: Dataset) -> LandingOrder:
    """Read what the commits' order and messages say."""
    table = dataset.data.table.select(["seq", "repo", "commit", "parents", "commit_time", "drop_reason", "message"])
    _, first = np.unique(table["seq"].to_numpy(), return_index=True)
    commits = table.take(pa.array(first))
    shas: list[str] = commits["commit"].to_pylist()
    positions = landing_positions(list(zip(shas, commits["parents"].to_pylist(), strict=True)))
    reverted: dict[str, int] = {}
    for at in pc.indices_nonzero(pc.equal(pc.fill_null(commits["drop_reason"], ""), "revert")).to_pylist():
        for name in REVERTED_COMMIT.findall(commits["message"][at].as_py()):
            for sha in (sha for sha in shas if sha.startswith(name)):
                reverted[sha] = min(positions[at], reverted.get(sha, positions[at]))
    return LandingOrder(
        shas=shas,
        repos=commits["repo"].to_pylist(),
        positions=positions,
        times=list(landing_times(table).values()),
        reverted=reverted,
    )

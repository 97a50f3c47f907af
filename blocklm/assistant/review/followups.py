"""What followed a past commit: later ones that repaired lines of it, or took it back."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.fix_links import FixLinker
from blocklm.mining.filters import REVERTED_COMMIT
from blocklm.mining.hunks import hunks_of
from blocklm.mining.landing_times import DAY, landing_times

FIXED, REVERTED = "fixed", "reverted"


@dataclass(frozen=True, slots=True)
class Followup:
    """A later commit that says something of an earlier one: `kind` is `fixed` or `reverted`."""

    kind: str
    commit: str
    day: date
    subject: str


def followups_of(changes: Dataset, commits: Sequence[str], before: int | None = None) -> dict[str, list[Followup]]:
    """What followed each of some commits, oldest first; only what touched the same files is read.

    Args:
        changes: the changes dataset.
        commits: those that are asked about.
        before: only what stands before this place in the history is known; None for all.
    """
    table = changes.data.table
    if before is not None:
        table = table.filter(pc.less(table["seq"], before))
    found: defaultdict[str, dict[str, Followup]] = defaultdict(dict)
    later = [*_repaired(table, commits), *_reverted(table, commits)]
    for _, commit, followup in sorted(later, key=lambda one: one[0]):
        found[commit].setdefault(followup.commit, followup)
    return {commit: list(some.values()) for commit, some in found.items()}


def _repaired(table: pa.Table, commits: Sequence[str]) -> Iterator[tuple[int, str, Followup]]:
    """Place of the repair, the repaired commit, and the repair."""
    landed = landing_times(table)
    kept = pc.is_null(table["drop_reason"])
    asked = table.filter(pc.and_(kept, _is_one_of(table["commit"], commits)))
    rows = pc.indices_nonzero(pc.and_(kept, _is_one_of(table["path"], asked["path"].unique().to_pylist())))
    repairs, owners, wanted = FixLinker(), list[str](), set(commits)
    for change in table.take(rows).to_pylist():
        file, day = f"{change['repo']}/{change['path']}", landed[change["seq"]] / DAY
        for hunk, reason in zip(hunks_of(change["diff"]), change["hunk_reasons"], strict=True):
            if reason is None:
                number = len(owners)
                owners.append(change["commit"])
                origin = repairs.origin(number, change["commit"], day, file, change["message"], hunk.lines)
                if origin is not None and owners[origin] in wanted:
                    yield change["seq"], owners[origin], _followup(FIXED, change)


def _reverted(table: pa.Table, commits: Sequence[str]) -> Iterator[tuple[int, str, Followup]]:
    for change in table.filter(pc.match_substring(table["message"], "This reverts commit")).to_pylist():
        for name in REVERTED_COMMIT.findall(change["message"]):
            for commit in (sha for sha in commits if sha.startswith(name)):
                yield change["seq"], commit, _followup(REVERTED, change)


def _followup(kind: str, change: dict[str, Any]) -> Followup:
    return Followup(kind, change["commit"], change["commit_time"].date(), change["message"].partition("\n")[0])


def _is_one_of(column: pa.ChunkedArray, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(values, pa.string()))

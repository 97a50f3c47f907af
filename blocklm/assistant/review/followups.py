"""Finds what followed a past commit: later commits that repaired lines of it or reverted it."""

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
    """A later commit that repaired or reverted an earlier one; `kind` is `fixed` or `reverted`."""

    kind: str
    commit: str
    day: date
    subject: str


def followups_of(changes: Dataset, commits: Sequence[str], before: int | None = None) -> dict[str, list[Followup]]:
    """Find what followed each of some commits, oldest first; of the history only changes to the same files are read.

    Args:
        changes: changes dataset.
        commits: ids of the commits.
        before: position in the history before which a follow-up must be; None, the default, for no limit.
    """
    table = changes.data.table
    if before is not None:
        table = table.filter(pc.less(table["seq"], before))
    by_commit: defaultdict[str, dict[str, Followup]] = defaultdict(dict)
    later = [*_find_repairs(table, commits), *_find_reverts(table, commits)]
    for _, commit, followup in sorted(later, key=lambda row: row[0]):
        by_commit[commit].setdefault(followup.commit, followup)
    return {commit: list(followups.values()) for commit, followups in by_commit.items()}


def _find_repairs(table: pa.Table, commits: Sequence[str]) -> Iterator[tuple[int, str, Followup]]:
    """Yield the position of each repair in the history, the repaired commit, and the repair."""
    landed = landing_times(table)
    kept = pc.is_null(table["drop_reason"])
    own = table.filter(pc.and_(kept, _is_one_of(table["commit"], commits)))
    rows = pc.indices_nonzero(pc.and_(kept, _is_one_of(table["path"], own["path"].unique().to_pylist())))
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


def _find_reverts(table: pa.Table, commits: Sequence[str]) -> Iterator[tuple[int, str, Followup]]:
    for change in table.filter(pc.match_substring(table["message"], "This reverts commit")).to_pylist():
        for name in REVERTED_COMMIT.findall(change["message"]):
            for commit in (sha for sha in commits if sha.startswith(name)):
                yield change["seq"], commit, _followup(REVERTED, change)


def _followup(kind: str, change: dict[str, Any]) -> Followup:
    return Followup(kind, change["commit"], change["commit_time"].date(), change["message"].partition("\n")[0])


def _is_one_of(column: pa.ChunkedArray, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(values, pa.string()))

"""Counts facts about a repository from its changes, and derives advice for training."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.mining.landing_times import landing_times
from blocklm.mining.messages import says_something

LANGUAGES_SHOWN = 20
QUANTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}
WIDE_COMMIT_FILES = 10
FEW_TELLING_PERCENT = 50
FEW_CHANGES = 200


@dataclass(frozen=True)
class _Commits:
    """The commits of a table, in landing order.

    Attributes:
        table: rows of changes.
        first: index of each commit's first row.
        row_of: index of each row's commit.
    """

    table: pa.Table
    first: np.ndarray[Any, Any]
    row_of: np.ndarray[Any, Any]

    def column(self, name: str) -> pa.ChunkedArray:
        return self.table[name].take(pa.array(self.first))


def analyse(changes: Dataset) -> dict[str, Any]:
    """Counts for the manifest's entry `repository`; authors are counted, not named."""
    table = changes.data.table
    _, first, row_of = np.unique(table["seq"].to_numpy(), return_index=True, return_inverse=True)
    commits = _Commits(table, first, row_of)
    lines = table["added"].to_numpy() + table["deleted"].to_numpy()
    has_files = np.flatnonzero(commits.column("num_files").to_numpy())
    merges = pc.greater(pc.list_value_length(commits.column("parents")), 1)
    ordinary = commits.column("message").filter(pc.invert(merges)).to_pylist()
    landed = landing_times(table).values()
    counts: dict[str, Any] = {
        "commits": len(first),
        "merges": pc.sum(merges).as_py(),
        "authors": len(table["author"].unique()),
        "first_commit_time": _iso(min(landed)),
        "last_commit_time": _iso(max(landed)),
        "languages": _languages(table, lines),
        "files_per_commit": _quantiles(commits.column("num_files").to_numpy()[has_files]),
        "lines_per_commit": _quantiles(np.bincount(row_of, weights=lines)[has_files]),
        "lines_per_file": _quantiles(lines[table["path"].is_valid().to_numpy()]),
        "telling_messages_percent": round(100 * sum(map(says_something, ordinary)) / max(1, len(ordinary))),
    }
    kept = table["drop_reason"].null_count
    return counts | {"advice": list(_advice(counts, kept))}


def _advice(counts: dict[str, Any], kept: int) -> Iterable[str]:
    """Yield a sentence for each count that matters for training."""
    telling, files = counts["telling_messages_percent"], counts["files_per_commit"].get("p50", 0)
    if telling < FEW_TELLING_PERCENT:
        yield f"{telling} % of the messages say what was done: the model learns more from the code than from its messages"
    if files > WIDE_COMMIT_FILES:
        yield f"{files} files in a typical commit: a message tells little about any one of them"
    if 2 * counts["merges"] > counts["commits"]:
        yield "more than half of the commits are merges, which repeat what their branches brought"
    if kept < FEW_CHANGES:
        yield f"{kept} changes to learn from are few: expect a small and uncertain gain"


def _languages(table: pa.Table, lines: np.ndarray[Any, Any]) -> dict[str, int]:
    """Changed lines by language, most first; files of a type that linguist does not know count as `unknown`."""
    files = table["path"].is_valid()
    counted = pa.table({"language": pc.fill_null(table["language"], "unknown"), "lines": pa.array(lines)}).filter(
        files
    )
    sums = counted.group_by("language").aggregate([("lines", "sum")]).sort_by([("lines_sum", "descending")])
    return dict(zip(sums["language"].to_pylist()[:LANGUAGES_SHOWN], sums["lines_sum"].to_pylist(), strict=False))


def _quantiles(values: np.ndarray[Any, Any]) -> dict[str, int]:
    if not len(values):
        return {}
    return {name: round(float(np.percentile(values, at))) for name, at in QUANTILES.items()}


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

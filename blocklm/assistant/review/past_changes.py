"""Finds the past changes nearest to the one under review, and what followed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.assistant.review.change import ReviewedChange
from blocklm.assistant.review.followups import Followup, followups_of

QUERY_CHARS = 1000  # length of a query: the beginning of a change says most about it


@dataclass(frozen=True, slots=True)
class PastChange:
    """A past commit that is near to the change under review.

    Attributes:
        commit: id of the commit.
        day: its date.
        subject: first line of its message.
        path: its file that is nearest.
        text: diff of that file.
        words: share of the query's words that the file change contains, from 0 to 1.
        followups: later commits that repaired or reverted it.
    """

    commit: str
    day: date
    subject: str
    path: str
    text: str
    words: float
    followups: Sequence[Followup] = ()


class Search(Protocol):
    """An index over past changes."""

    def __call__(self, question: str, count: int, before: int | None) -> Sequence[PastChange]:
        """Find the nearest commits before a position in the history; `before` is None for no limit."""


def past_changes(change: ReviewedChange, changes: Dataset, search: Search, count: int) -> list[PastChange]:
    """Find the past changes nearest to a change, and their follow-ups, as known when the change was made.

    Neither commits nor fixes that came later are found.

    Args:
        change: change under review.
        changes: changes dataset.
        search: index over past changes.
        count: maximum number of past changes.
    """
    before = _first_position(change, changes)
    nearest = search(_query(change), count, before)
    followups = followups_of(changes, [past.commit for past in nearest], before)
    return [replace(past, followups=followups.get(past.commit, ())) for past in nearest]


def past_change(row: Mapping[str, Any]) -> PastChange:
    """Rebuild a past change from a row that `dataclasses.asdict` and JSON wrote."""
    followups = [Followup(**fields | {"day": date.fromisoformat(fields["day"])}) for fields in row["followups"]]
    return PastChange(**{**row, "day": date.fromisoformat(row["day"]), "followups": followups})


def _first_position(change: ReviewedChange, changes: Dataset) -> int | None:
    """Find the position of the change's first commit in the history; None if none of its commits was mined."""
    table = changes.data.table
    own = table.filter(pc.is_in(table["commit"], value_set=pa.array(change.commits, pa.string())))
    position: int | None = pc.min(own["seq"]).as_py()
    return position


def _query(change: ReviewedChange) -> str:
    """Join subject, paths and changed lines of a change to a search query."""
    paths = dict.fromkeys(hunk.path for hunk in change.hunks)
    lines = (text for hunk in change.hunks for mark, text in hunk.marked if mark != " ")
    return "\n".join(filter(None, (change.subject, *paths, *lines)))[:QUERY_CHARS]

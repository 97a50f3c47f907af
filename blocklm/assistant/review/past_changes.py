"""The past changes that are nearest to one under review, and what followed them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.assistant.review.change import ReviewedChange
from blocklm.assistant.review.followups import Followup, followups_of

ASKED_CHARS = 1000  # of a change: what tells most of it stands at its beginning


@dataclass(frozen=True, slots=True)
class PastChange:
    """A commit, the file change of it that is nearest with the share of the question's words that it has, and what followed."""

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
        """The nearest commits before a place in the history."""


def past_changes(change: ReviewedChange, changes: Dataset, search: Search, count: int) -> list[PastChange]:
    """What was known when the change was made: nothing that came later is found, and no later fix.

    Args:
        change: under review.
        changes: the changes dataset.
        search: finds the nearest.
        count: how many.
    """
    before = _place(change, changes)
    found = search(_question(change), count, before)
    followed = followups_of(changes, [one.commit for one in found], before)
    return [replace(one, followups=followed.get(one.commit, ())) for one in found]


def past_change(row: Mapping[str, Any]) -> PastChange:
    """One as `dataclasses.asdict` and JSON wrote it."""
    then = [Followup(**one | {"day": date.fromisoformat(one["day"])}) for one in row["followups"]]
    return PastChange(**{**row, "day": date.fromisoformat(row["day"]), "followups": then})


def _place(change: ReviewedChange, changes: Dataset) -> int | None:
    """Where the history that the change begins from ends; None if that is all of what was mined."""
    table = changes.data.table
    own = table.filter(pc.is_in(table["commit"], value_set=pa.array(change.commits, pa.string())))
    place: int | None = pc.min(own["seq"]).as_py()
    return place


def _question(change: ReviewedChange) -> str:
    """Its subject, its paths, and what it changes."""
    paths = dict.fromkeys(hunk.path for hunk in change.hunks)
    lines = (text for hunk in change.hunks for mark, text in hunk.marked if mark != " ")
    return "\n".join(filter(None, (change.subject, *paths, *lines)))[:ASKED_CHARS]

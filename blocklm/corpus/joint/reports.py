"""Makes the report of a joint corpus from those of its repositories, and names those that cannot be joined."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.mining.joint import sum_funnels

FUNNELS = ("funnel", "hunk_funnel")
COUNTERS = ("redactions", "duplicates")
NUMBERS = ("gap_commits", "changes")
T = TypeVar("T")


def of_each(parts: Sequence[Changes], make: Callable[[Changes], T]) -> list[T]:
    """Make something of each repository's changes.

    Raises:
        UserError: it cannot be made of some; all of them are named.
    """
    made, failed = list[T](), list[str]()
    for part in parts:
        try:
            made.append(make(part))
        except UserError as error:
            failed.append(f"{part.report['repository']['name']}: {error}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(parts)} repositories cannot be joined: {'; '.join(failed)}",
            "take them out of the list, or change the keys of the corpus so that enough of them is left",
        )
    return made


def joint_report(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up the counts of reports; leakage is measured in each repository's own corpus."""
    joint: dict[str, Any] = {name: sum_funnels([report[name] for report in reports]) for name in FUNNELS}
    for name in COUNTERS:
        joint[name] = dict(sum((Counter(report[name]) for report in reports), Counter[str]()).most_common())
        joint[name] |= {kind: 0 for report in reports for kind in report[name] if kind not in joint[name]}
    joint |= {name: sum(report[name] for report in reports) for name in NUMBERS if name in reports[0]}
    return joint | {"leakage": {}, "cut": {repo: sha for report in reports for repo, sha in report["cut"].items()}}


def joint_weights(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest's `corpus.weights` of all: each repository has a half-life of its own, whose mean is told."""
    half_lives = [report["half_life_days"] for report in reports if report["half_life_days"] is not None]
    return {
        "half_life_days": round(sum(half_lives) / len(half_lives), 1) if half_lives else None,
        "floor": min((report["floor"] for report in reports if report["floor"] is not None), default=None),
        "survival": [],
        "effective_samples": sum(report["effective_samples"] for report in reports),
        "of": sum(report["of"] for report in reports),
    }

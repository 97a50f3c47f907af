"""Lists the commits to read in landing order, up to where the history is cut off."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time

from blocklm.errors import UserError
from blocklm.git.isolation import failure_of, isolated_repository, run_git
from blocklm.git.repository import Repository

BROKEN_PARENTS = re.compile(r"Failed to traverse parents of commit ([0-9a-f]{40})")
OBJECT_ID = re.compile(r"\b[0-9a-f]{40}\b")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which commits are read.

    A day without a time starts at midnight as `since` and ends at midnight as `until`; git itself would add the current
    time of day.

    Attributes:
        since: earliest commit date, in ISO format, in UTC unless it names a zone; default: no limit.
        until: latest commit date, likewise.
        max_commits: most commits, counted from the newest; default: all.
    """

    since: str | None = None
    until: str | None = None
    max_commits: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The commits to read.

    Attributes:
        shas: commit ids, oldest first, each branch just before the merge that landed it.
        boundary: ids of the commits whose parents are missing, from a shallow clone or after a missing commit object.
    """

    shas: tuple[str, ...]
    boundary: frozenset[str]


def list_commits(repository: Repository, selection: Selection = Selection()) -> History:
    """List the selected commits that the head leads to.

    A missing commit object ends the history there, as in a shallow clone.

    Raises:
        UserError: git cannot walk the history for another reason.
    """
    options = []
    if selection.since is not None and _seconds(selection.since, time.min) >= 0:
        options.append(f"--since-as-filter=@{_seconds(selection.since, time.min)} +0000")
    if selection.until is not None:
        options.append(f"--until=@{_seconds(selection.until, time.max)} +0000")
    if selection.max_commits is not None:
        options.append(f"--max-count={selection.max_commits}")
    boundary = repository.shallow
    if selection.until is not None and _seconds(selection.until, time.max) < 0:
        return History((), boundary)  # git misreads dates before 1970
    while True:
        with isolated_repository(repository.git_dir, boundary) as environment:
            done = run_git(environment, "rev-list", "--topo-order", "--reverse", *options, repository.head)
            if done.returncode == 0:
                return History(tuple(done.stdout.split()), boundary)
            walked = run_git(environment, "rev-list", "--count", repository.head)  # this order names the child
        broken = BROKEN_PARENTS.search(walked.stderr)
        if broken is None or broken[1] in boundary:
            why = failure_of(walked if walked.stderr else done)
            raise UserError(
                f"the history of {repository.path} cannot be read: {why}", "run `git fsck` to see what is damaged"
            )
        boundary |= {broken[1]}


def _seconds(date: str, time_of_day: time) -> int:
    moment = datetime.fromisoformat(date)
    if len(date) <= len("2024-01-31"):
        moment = datetime.combine(moment, time_of_day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def missing_objects(repository: Repository, errors: Sequence[str]) -> list[str]:
    """The ids of objects that `errors` name and that are still missing; a later fetch may have brought others."""
    ids = sorted({name for error in errors for name in OBJECT_ID.findall(error)})
    if not ids:
        return []
    with isolated_repository(repository.git_dir, frozenset()) as environment:
        done = run_git(
            environment, "cat-file", "--batch-check=%(objectname)", given="".join(f"{name}\n" for name in ids)
        )
    return [line.split()[0] for line in done.stdout.splitlines() if line.endswith("missing")]

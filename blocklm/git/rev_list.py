"""Which commits are read, in which order, and where the history ends before its beginning."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time

from blocklm.errors import UserError
from blocklm.git.isolation import isolated_repository, run_git, said_by
from blocklm.git.repository import Repository

BROKEN_PARENTS = re.compile(r"Failed to traverse parents of commit ([0-9a-f]{40})")
OBJECT_ID = re.compile(r"\b[0-9a-f]{40}\b")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which commits are read: by commit date (ISO, UTC unless it says otherwise), and at most that many of the newest.

    A day without a time begins at midnight as `since` and ends at midnight as `until`; git itself would add the time of now.
    """

    since: str | None = None
    until: str | None = None
    max_commits: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """The commits to read, oldest first, each branch just before the merge that landed it.

    `boundary` holds the commits whose parents are not there: of a shallow clone, or above a missing commit object.
    """

    shas: tuple[str, ...]
    boundary: frozenset[str]


def list_commits(repository: Repository, selection: Selection = Selection()) -> History:
    """List the selected commits reachable from the head.

    A missing commit object ends the history there, just as a shallow clone does.

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
        return History((), boundary)  # git guesses at dates before 1970
    while True:
        with isolated_repository(repository.git_dir, boundary) as environment:
            done = run_git(environment, "rev-list", "--topo-order", "--reverse", *options, repository.head)
            if done.returncode == 0:
                return History(tuple(done.stdout.split()), boundary)
            walked = run_git(environment, "rev-list", "--count", repository.head)  # this order names the child
        broken = BROKEN_PARENTS.search(walked.stderr)
        if broken is None or broken[1] in boundary:
            why = said_by(walked if walked.stderr else done)
            raise UserError(
                f"the history of {repository.path} cannot be read: {why}", "`git fsck` says what is damaged"
            )
        boundary |= {broken[1]}


def _seconds(date: str, of_day: time) -> int:
    moment = datetime.fromisoformat(date)
    if len(date) <= len("2024-01-31"):
        moment = datetime.combine(moment, of_day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def missing_objects(repository: Repository, errors: Sequence[str]) -> list[str]:
    """Of the objects that `errors` name, those that are still not there; a later fetch may have brought them."""
    named = sorted({name for error in errors for name in OBJECT_ID.findall(error)})
    if not named:
        return []
    with isolated_repository(repository.git_dir, frozenset()) as environment:
        done = run_git(environment, "cat-file", "--batch-check=%(objectname)", given="".join(f"{n}\n" for n in named))
    return [line.split()[0] for line in done.stdout.splitlines() if line.endswith("missing")]

"""What became of the task of one repository, as a value and as a file."""

import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from blocklm.errors import UserError
from blocklm.files import write_json
from blocklm.formatting import count, duration, plural, printable
from blocklm.runs.report.components import Row, Table
from blocklm.runs.report.text import text_lines

FAILED = "failed"
USER_ERROR = 2  # exit code of `console` after it wrote the two lines of a `UserError`
READ_BYTES = 1 << 16  # of the end of a log


@dataclass(frozen=True)
class Outcome:
    """The end of a task.

    Attributes:
        name: name of the task.
        source: path or URL of its repository.
        log: file with all that it wrote.
        state: what was done, such as `built` or `unchanged`; `failed` if it did not end well.
        seconds: wall time.
        commits: commits of its history; None if it failed.
        samples: training samples; None if it failed.
        reason: why it failed, in one line; None if it did not.
    """

    name: str
    source: str
    log: str
    state: str
    seconds: float
    commits: int | None = None
    samples: int | None = None
    reason: str | None = None

    def line(self) -> str:
        """Describe the outcome in one line."""
        if self.state == FAILED:
            return f"{self.name}: failed: {self.reason}"
        counts = f"{plural(self.commits or 0, 'commit')}, {plural(self.samples or 0, 'sample')}"
        return f"{self.name}: {self.state}, {counts}, {duration(self.seconds)}"


def write_outcome(path: Path, outcome: Outcome) -> None:
    """Write the outcome as JSON."""
    write_json(path, asdict(outcome))


def reason_of(exit_code: int, log: Path, start: int) -> str:
    """Say why a task failed: its error and hint, or the end of its traceback, or the signal that killed it.

    Args:
        exit_code: exit code of its process, or minus the number of the signal.
        log: its log.
        start: offset in the log at which the task began.
    """
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        return f"its process was killed by {name}" + (" (out of memory?)" if exit_code == -signal.SIGKILL else "")
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - READ_BYTES))
        lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if exit_code == USER_ERROR and len(lines) > 1 and lines[-2].startswith("error: "):
        return printable(f"{lines[-2].removeprefix('error: ')} ({lines[-1].removeprefix('hint: ')})")
    return printable(lines[-1]) if lines else f"exit code {exit_code}"


def outcome_table(outcomes: Sequence[Outcome]) -> str:
    """Format the outcomes as a table, and below it each failure with its reason and log."""
    rows = tuple(
        Row((done.name, _count(done.commits), _count(done.samples), f"{done.seconds:.1f}", done.state))
        for done in outcomes
    )
    states = [done.state for done in outcomes]
    sums = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    caption = f"{_repositories(len(outcomes))}: {sums}"
    head = ("Name", "Commits", "Samples", "Seconds", "Outcome")
    failed = [done for done in outcomes if done.state == FAILED]
    reasons = [f"  {done.name}: {done.reason}\n    {printable(done.source)}, log: {done.log}" for done in failed]
    return "\n".join([*text_lines(Table(caption, head, rows, (1, 2, 3))), *(["Failed:", *reasons] if failed else [])])


def raise_failures(outcomes: Sequence[Outcome]) -> None:
    """Raise `UserError` if a task failed; its message names all that did."""
    if names := [done.name for done in outcomes if done.state == FAILED]:
        raise UserError(
            f"{len(names)} of {_repositories(len(outcomes))} failed: {', '.join(names)}",
            "the reasons are above; the same command again does only what is missing or new",
        )


def _repositories(number: int) -> str:
    """Format a number of repositories."""
    return "1 repository" if number == 1 else f"{count(number)} repositories"


def _count(number: int | None) -> str:
    return "\N{EN DASH}" if number is None else count(number)

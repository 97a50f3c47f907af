"""Tasks that fail in every way leave the others alone, and each says why."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from blocklm.errors import UserError
from blocklm.many.outcome import Outcome, outcome_table, raise_failures
from blocklm.many.processes import Task, run_tasks
from blocklm.many.sources import Source


def succeed(text: str) -> None:
    sys.stdout.write(f"{text} in {Path.cwd().name}\n")


def refuse() -> None:
    raise UserError("the key `x` cannot be \x1b[31m7", "give 8")


def break_down() -> None:
    sys.stderr.write("error: the last word of a library\nhint: no\n")
    raise KeyError("missing")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    raise SystemExit(3)


def found() -> Mapping[str, Any]:
    return {"state": "built", "commits": 1000, "samples": 1}


def task(folder: Path, name: str, work: Callable[[], None]) -> Task:
    return Task(Source(name, f"/src/{name}"), work, found, folder / f"{name}.log", folder / f"{name}.json")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Every kind of end, of tasks that ran two at a time."""
    folder = tmp_path_factory.mktemp("logs")
    works: dict[str, Callable[[], None]] = {
        "refused": refuse,
        "broken": break_down,
        "killed": die,
        "left": leave,
        "good": partial(succeed, "done"),
    }
    done = run_tasks([task(folder, name, work) for name, work in works.items()], 2, "testing")
    assert [outcome.name for outcome in done] == list(works)
    return {outcome.name: outcome for outcome in done}


def test_a_task_that_ends_well_has_its_output_in_its_log(outcomes: dict[str, Outcome]) -> None:
    good = outcomes["good"]
    assert (good.state, good.commits, good.samples, good.reason) == ("built", 1000, 1, None)
    assert Path(good.log).read_text().splitlines()[1:] == [f"done in {Path.cwd().name}"]
    assert good.line().startswith("good: built, 1,000 commits, 1 sample, ")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refused", "the key `x` cannot be \\x1b[31m7 (give 8)"),
        ("broken", "KeyError: 'missing'"),
        ("killed", "its process was killed by SIGKILL (out of memory?)"),
        ("left", "exit code 3"),
    ],
)
def test_a_task_that_fails_says_why(outcomes: dict[str, Outcome], name: str, reason: str) -> None:
    failed = outcomes[name]
    assert (failed.state, failed.commits, failed.reason) == ("failed", None, reason)
    assert json.loads(Path(failed.log).with_suffix(".json").read_text())["reason"] == reason


def test_the_table_names_those_that_failed_last(outcomes: dict[str, Outcome]) -> None:
    lines = outcome_table(list(outcomes.values())).splitlines()
    assert lines[0] == "5 repositories: 1 built, 4 failed"
    assert lines[1].split() == ["Name", "Commits", "Samples", "Seconds", "Outcome"]
    assert lines[6].split()[:3] == ["good", "1,000", "1"]
    assert lines[7] == "Failed:"
    assert len(lines) == 8 + 2 * 4
    with pytest.raises(UserError, match="4 of 5 repositories failed: refused, broken, killed, left"):
        raise_failures(list(outcomes.values()))
    raise_failures([outcomes["good"]])


def test_the_reason_is_of_this_attempt(tmp_path: Path) -> None:
    """The log keeps earlier attempts, whose errors are no reason now."""
    run_tasks([task(tmp_path, "one", refuse)], 1, "testing")
    (second,) = run_tasks([task(tmp_path, "one", leave)], 1, "testing")
    assert second.reason == "exit code 3"
    assert "cannot be" in Path(second.log).read_text()


@pytest.mark.parametrize("given", [None, "", "1"])
def test_programs_started_later_import_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    """Only the server of the tasks may not import from the current folder."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if given is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", given)
    before = dict(os.environ)
    (outcome,) = run_tasks([task(tmp_path, "one", partial(succeed, "done"))], 1, "testing")
    assert outcome.state == "built"
    assert dict(os.environ) == before

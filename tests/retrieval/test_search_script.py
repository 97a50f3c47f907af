"""The search as a user runs it: answers on stdout, all else on stderr, and every refusal in one clear line."""

import json
import logging
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

RECIPE = ROOT / "recipes" / "quickstart.yaml"


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, data, and all else."""

    returncode: int
    stdout: str
    stderr: str


Search = Callable[..., Said]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture
def search(
    project: Path,
    place: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Search]:
    """The script itself, in this process: to import torch for each question would take longer than all answers."""
    monkeypatch.chdir(place)
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    hook, levels = threading.excepthook, {name: logging.getLogger(name).level for name in ("blocklm", "bitsandbytes")}

    def searched(*arguments: str) -> Said:
        where = ["--repo", str(project), "--corpus_dir", "corpora"]
        monkeypatch.setattr(sys, "argv", ["search.py", str(RECIPE), *arguments, *where])
        caplog.clear()
        code = 0
        try:
            runpy.run_path(str(ROOT / "scripts" / "search.py"), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        logged = "".join(f"{record.getMessage()}\n" for record in caplog.records)
        return Said(code, captured.out, logged + captured.err)

    yield searched
    for signum, handler in before.items():
        signal.signal(signum, handler)
    threading.excepthook = hook
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_commits_are_found_with_score_date_and_path(search: Search) -> None:
    done = search("where does the value of step 12 come from", "--count", "2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "1."
    assert lines[0].endswith("src/steps.py")
    assert lines[1].strip() == "Add step 12"
    assert "% of the words, cosine 0." in lines[2]
    assert any("def step_12(value):" in line for line in lines[3:])
    assert "--search_history all" in done.stderr


def test_json_lines_hold_the_same(search: Search) -> None:
    done = search("the side door", "--json", "--embedding_model", "none", "--search_history", "all")
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["path"], first["subject"], first["cosine"]) == ("src/side.py", "Add the side door, thanks", None)
    assert len(first["commit"]) == 40
    assert "were not searched" not in done.stderr


def test_files_are_found_where_they_are(search: Search) -> None:
    done = search("step 29", "--files", "--json", "--embedding_model", "none", "--count", "1")
    (hit,) = map(json.loads, done.stdout.splitlines())
    assert (hit["path"], hit["subject"]) == ("src/steps.py", "")
    assert "step_29" in hit["text"]


def test_nothing_fits_is_said_and_what_comes_nearest_shown_if_asked(search: Search) -> None:
    question = "quantum chromodynamics lattice"
    done = search(question)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing fits; --all_hits shows the 10 that come nearest" in done.stderr
    assert search(question, "--all_hits", "--count", "3").stdout.count("% of the words") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing is asked"),
        (("  ",), "nothing is asked"),
        (("x", "--count", "0"), "`--count` cannot be '0'"),
        (("x", "--vector_store", "redis"), "`vector_store` cannot be 'redis'"),
        (("x", "--search_history", "some"), "`search_history` cannot be 'some'"),
        (("x", "--qdrant_url", "localhost"), "`qdrant_url` is no address"),
        (("x", "--qdrant_url", "http://me:pw@localhost"), "`qdrant_url` may not hold a password"),
        (
            ("x", "--qdrant_url", "http://127.0.0.1:9"),
            "Qdrant at http://127.0.0.1:9/collections/blocklm-project-changes",
        ),
        (("x", "--embedding_model", "/nowhere"), "`embedding_model` /nowhere cannot be loaded"),
    ],
)
def test_bad_input_ends_in_one_line_and_a_hint(search: Search, arguments: tuple[str, ...], said: str) -> None:
    done = search(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith(f"error: {said}"), done.stderr
    assert hint.startswith("hint: ")

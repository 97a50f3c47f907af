"""The search as a user runs it: hits on stdout, all else on stderr, and each refusal in one clear line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.scripts import Done, run_in_process

RECIPE = ROOT / "recipes" / "quickstart.yaml"


Search = Callable[..., Done]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searched")


@pytest.fixture
def search(project: Path, place: Path) -> Search:
    """The script itself, in this process: to import torch for each question would take longer than all answers."""

    def searched(*arguments: str) -> Done:
        where = ("--repo", project, "--corpus_dir", "corpora")
        return run_in_process("search.py", RECIPE, *arguments, *where, cwd=place)

    return searched


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
    assert (first["path"], first["subject"], first["cosine"]) == (
        "src/side.py",
        "Add the side door, thanks <NAME>",
        None,
    )
    assert len(first["commit"]) == 40
    assert "were not searched" not in done.stderr


def test_files_are_found_where_they_are(search: Search) -> None:
    done = search("step 29", "--files", "--json", "--embedding_model", "none", "--count", "1")
    (hit,) = map(json.loads, done.stdout.splitlines())
    assert (hit["path"], hit["subject"]) == ("src/steps.py", "")
    assert "step_29" in hit["text"]


def test_poor_hits_are_hidden_unless_all_hits_is_given(search: Search) -> None:
    question = "quantum chromodynamics lattice"
    done = search(question)
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing matches; --all_hits shows the 10 nearest" in done.stderr
    assert search(question, "--all_hits", "--count", "3").stdout.count("% of the words") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "there is no question"),
        (("  ",), "there is no question"),
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
def test_bad_input_ends_in_one_line_and_a_hint(search: Search, arguments: tuple[str, ...], message: str) -> None:
    done = search(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()[-2:]
    assert error.startswith(f"error: {message}"), done.stderr
    assert hint.startswith("hint: ")

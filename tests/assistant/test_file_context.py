"""What generation is given of the repository before a prompt: near, not shown already, within the room, safe to read."""

from pathlib import Path

import pytest

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import Request
from blocklm.errors import UserError
from blocklm.models.generation import Decoding
from blocklm.runs.completed import CompletedRun, open_run
from tests.conftest import GitRepository
from tests.support.scripts import run_in_process


@pytest.fixture(scope="module")
def run(taught: Path) -> CompletedRun:
    return open_run(taught, ["--embedding_model", "none"])


def told(run: CompletedRun, request: Request, count: int, tokens: int = 8) -> str:
    (ids,) = Assistant(run, Decoding(tokens), count).tokens([request])
    text: str = run.tokenizer.decode(ids)
    return text


def test_the_nearest_file_stands_before_the_prompt_as_files_do_in_training(
    run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(taught.parent)
    request = Assistant(run, Decoding(8)).prompt_builder.text("the lamps of the house")
    plain = told(run, request, 0)
    given = told(run, request, 1)
    before, _, after = given.rpartition(request.prompt.text)
    assert after == ""
    assert "### house/src/lamps.py\n" in before
    assert "    lantern, lantern, lantern,\n" in before
    assert given.startswith(plain.removesuffix(request.prompt.text)), "what begins every text comes first"
    assert told(run, request, 1) == given


def test_what_the_prompt_shows_is_not_given_again(
    run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(taught.parent)
    shown = "LAMPS = [\n" + "    lantern, lantern, lantern,\n"
    assert "### house/src/lamps.py" not in told(run, Assistant(run, Decoding(8)).prompt_builder.text(shown), 1)


def test_what_does_not_fit_is_left_out(run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(taught.parent)
    request = Assistant(run, Decoding(8)).prompt_builder.text("the lamps of the house")
    long = Assistant(run, Decoding(900), 1).tokens([request])  # of 1024 positions
    assert len(long[0]) <= 124
    assert "### house/src/lamps.py" not in run.tokenizer.decode(long[0])


def test_the_script_says_what_it_gave_and_refuses_it_for_a_diff(taught: Path, lamps: GitRepository) -> None:
    asked = ("--prompt", "the lamps of the house", "--max_new_tokens", "4", "--retrieve", "1")
    done = run_in_process("generate.py", taught, *asked, cwd=taught.parent)
    assert done.returncode == 0, done.stderr
    assert "given before it: src/lamps.py:1" in done.stderr
    refused = run_in_process("generate.py", taught, "--view", "message", "--retrieve", "1", cwd=taught.parent)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: `--retrieve 1` has no effect here\nhint: ")


def test_no_files_to_search_is_told(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        moved = open_run(taught, ["--repo", str(tmp_path / "nowhere")])
        told(moved, Assistant(moved, Decoding(8)).prompt_builder.text("lamps"), 1)

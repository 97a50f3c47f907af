"""Retrieved files before a prompt are near, not shown already, within the limit, and free of secrets."""

from pathlib import Path

import pytest

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import Request
from blocklm.errors import UserError
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import CompletedRun, open_run
from tests.conftest import GitRepository
from tests.support.scripts import run_in_process


@pytest.fixture(scope="module")
def run(taught: Path) -> CompletedRun:
    return open_run(taught, ["--embedding_model", "none"])


def prompt_of(run: CompletedRun, request: Request, count: int, tokens: int = 8) -> str:
    (ids,) = Assistant(run, Decoding(tokens), count).tokens([request])
    text: str = run.tokenizer.decode(ids)
    return text


def test_the_nearest_file_is_before_the_prompt_as_in_training(
    run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(taught.parent)
    request = Assistant(run, Decoding(8)).prompt_builder.text("the lamps of the house")
    plain = prompt_of(run, request, 0)
    given = prompt_of(run, request, 1)
    before, _, after = given.rpartition(request.prompt.text)
    assert after == ""
    assert "### house/src/lamps.py\n" in before
    assert "    lantern, lantern, lantern,\n" in before
    assert given.startswith(plain.removesuffix(request.prompt.text)), "what begins every text comes first"
    assert prompt_of(run, request, 1) == given


def test_retrieved_pieces_do_not_repeat_the_prompt(
    run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(taught.parent)
    shown = "LAMPS = [\n" + "    lantern, lantern, lantern,\n"
    assert "### house/src/lamps.py" not in prompt_of(run, Assistant(run, Decoding(8)).prompt_builder.text(shown), 1)


def test_pieces_that_do_not_fit_are_left_out(run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(taught.parent)
    request = Assistant(run, Decoding(8)).prompt_builder.text("the lamps of the house")
    long = Assistant(run, Decoding(900), 1).tokens([request])  # of 1024 positions
    assert len(long[0]) <= 124
    assert "### house/src/lamps.py" not in run.tokenizer.decode(long[0])


def test_at_a_place_the_file_makes_room_for_a_piece_as_in_training(
    run: CompletedRun, taught: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(taught.parent)
    above = "".join(f"row_{number} = the_lamps_of_the_house({number})\n" for number in range(200))
    request = Assistant(run, Decoding(8)).prompt_builder.gap(above, "\n", "src/rows.py")
    full, given = prompt_of(run, request, 0), prompt_of(run, request, 1)
    assert "### src/steps.py\ndef step_" in given and "### src/steps.py" not in full
    assert given.endswith("row_199 = the_lamps_of_the_house(199)\n")
    assert 20 < given.count("row_") < full.count("row_") < 2 * 200
    assert "left out" not in caplog.text, "an editor's request always is a part of a file"


def test_the_script_names_the_retrieved_pieces_and_refuses_retrieval_for_a_diff(
    taught: Path, lamps: GitRepository
) -> None:
    asked = ("--prompt", "the lamps of the house", "--max_new_tokens", "4", "--retrieve", "1")
    done = run_in_process("generate.py", taught, *asked, cwd=taught.parent)
    assert done.returncode == 0, done.stderr
    assert "given before it: src/lamps.py:1" in done.stderr
    refused = run_in_process("generate.py", taught, "--view", "message", "--retrieve", "1", cwd=taught.parent)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: `--retrieve 1` has no effect here\nhint: ")


def test_a_search_without_files_is_refused(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError):
        moved = open_run(taught, ["--repo", str(tmp_path / "nowhere")])
        prompt_of(moved, Assistant(moved, Decoding(8)).prompt_builder.text("lamps"), 1)

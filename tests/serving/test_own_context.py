"""The open file is recognised by its lines, and pieces of related files stay while their place is edited."""

import shutil
from pathlib import Path

import pytest

from blocklm.corpus.places.place import FilePiece
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import open_run
from blocklm.serving.own_context import OwnContext
from blocklm.serving.path_finder import FilePlace, PathFinder
from blocklm.serving.question import Continuation, Gap, Limits, Question
from blocklm.serving.served import Served, Switches, load, prompts_of
from tests.conftest import GitRepository, function
from tests.serving.conftest import Open

STEPS = "".join(function(number) for number in range(22))
A, B = FilePlace("house", "a.py"), FilePlace("house", "b.py")


def test_a_file_is_found_by_most_of_its_lines_while_it_is_edited() -> None:
    other = "".join(f"class Other{number}:\n    width = {number} * 12\n\n\n" for number in range(9))
    finder = PathFinder([(A, STEPS), (B, other)])
    assert finder.find(STEPS[:600], STEPS[600:1200]) == A
    assert finder.find(STEPS[:600] + "\ndef a_new_function(with, arguments):\n    return", STEPS[600:1200]) == A
    assert finder.find(other[:200] + "\n", "") == B


def test_a_file_that_is_new_or_has_a_double_is_not_found() -> None:
    assert PathFinder([(A, STEPS)]).find("import os\nimport sys\n\n\ndef main(arguments):\n    return\n", "") is None
    assert PathFinder([(A, STEPS), (B, STEPS)]).find(STEPS[:600], STEPS[600:]) is None
    assert PathFinder([(A, STEPS)]).find(STEPS[:60], "") is None, "a line or two are too few"
    assert PathFinder([]).find(STEPS, "") is None


def test_the_files_at_the_head_of_the_repository_are_known(taught: Path, opened: Open) -> None:
    context = OwnContext(opened(taught), paths=True, pieces=0)
    assert context.place_of(STEPS[:600], STEPS[600:]) == FilePlace("house", "src/steps.py")
    assert OwnContext(opened(taught), paths=False, pieces=0).place_of(STEPS[:600], STEPS[600:]) is None
    assert context.pieces_near(None, "LAMPS", "") == []


def test_pieces_stay_while_a_line_is_typed(taught: Path, opened: Open) -> None:
    context = OwnContext(opened(taught), paths=False, pieces=2)
    shown = context.pieces_near(A, "the lamps of the house\nlantern", "")
    assert shown[-1].path == "src/lamps.py", "the nearest is next to the cursor"
    assert context.pieces_near(A, "the lamps of the house\nlantern, lan", "") == shown
    own = "LAMPS = [\n    lantern, lantern, lantern,\n"
    assert "src/lamps.py" not in [piece.path for piece in context.pieces_near(A, own, "")], "the request shows it"


def prompt_of(served: Served, asked: Gap | Continuation, tokens: int = 8) -> str:
    prompts = served.runs[0].prompts
    return str(prompts.run.tokenizer.decode(prompts.word(Question(asked, Limits(Decoding(tokens)))).ids))


def test_a_prompt_names_the_recognised_file_and_shows_related_pieces(served: Served) -> None:
    text = prompt_of(served, Gap(STEPS[:400], STEPS[400:800]))
    assert "### house/src/steps.py, up to the cursor\n" in text
    lamps = prompt_of(served, Gap("# the lamps of the house\n# every lamp\n", ""))
    assert "### src/lamps.py\nLAMPS = [\n" in lamps
    assert "### up to the cursor\n# the lamps" in lamps


def test_each_kind_of_context_can_be_switched_off(taught: Path, opened: Open) -> None:
    bare = load([opened(taught)], Switches(paths=False, pieces=0))
    assert "src/" not in prompt_of(bare, Gap(STEPS[:400], STEPS[400:800]))
    assert "src/" not in prompt_of(bare, Gap("# the lamps of the house\n# every lamp\n", ""))


def test_what_the_client_shows_is_shown_nearest(served: Served) -> None:
    gap = Gap(
        "# the lamps of the house\n", "", "c.py", (FilePiece("b.py", "x = 1\n"), FilePiece("d.py", "<|endoftext|>"))
    )
    text = prompt_of(served, gap)
    assert text.index("### src/lamps.py") < text.index("### b.py\nx = 1\n") < text.index("### house/c.py, ")
    assert "d.py" not in text, "it would break the prompt"


def test_a_prompt_has_at_most_the_tokens_of_a_training_sample(served: Served) -> None:
    prompts = served.runs[0].prompts
    worded = prompts.word(Question(Gap("x = 1\n" * 5000, "y = 2\n" * 5000), Limits(Decoding(5000))))
    assert len(worded.ids) <= 512
    assert worded.truncated
    assert worded.limits.decoding.max_new_tokens == 512, "half of what the model can read"


def test_a_repository_that_is_gone_leaves_the_rest(
    taught: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (run,) = load([open_run(taught, ["--repo", str(tmp_path / "nowhere")])], Switches()).runs
    assert run.prompts.context is None
    assert "no context of the repository" in caplog.text


def test_a_file_that_cannot_be_read_leaves_the_rest(
    taught: Path, lamps: GitRepository, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """As in a partial clone, or after an object was damaged."""
    partial = GitRepository(shutil.copytree(lamps.path, tmp_path / "house"), commits=24)
    blob = partial.git("rev-parse", "HEAD:src/lamps.py").strip()
    (partial.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    keys = ["--repo", str(partial.path), "--corpus_dir", str(tmp_path / "corpora")]
    context = prompts_of(open_run(taught, keys), Switches()).context
    assert context is not None
    assert context.place_of(STEPS[:600], STEPS[600:]) == FilePlace("house", "src/steps.py")
    assert {piece.path for piece in context.pieces_near(None, "Return step 3 of value\n", "")} == {"src/steps.py"}
    assert caplog.text.count("1 file of house at") == 1

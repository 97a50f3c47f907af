"""The server learns from an editor's next requests what was kept of a shown text, and stores no code."""

from dataclasses import replace
from pathlib import Path

import pytest

from blocklm.files import read_json_lines
from blocklm.serving.feedback import PENDING, Feedback
from blocklm.serving.question import Answer
from blocklm.serving.served import Served
from tests.serving.conftest import running

BEFORE = "def area(width, height):\n    return "
TEXT = "width * height\n\n\ndef volume"


def outcomes(path: Path) -> list[int | None]:
    """How many characters of each text were kept, in the order in which that showed."""
    return [row["kept"] for row in read_json_lines(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of outcomes."""
    return tmp_path / "feedback.jsonl"


@pytest.fixture
def feedback(path: Path) -> Feedback:
    """One text was shown."""
    found = Feedback(path)
    found.show(BEFORE, Answer(TEXT, probability=0.25))
    return found


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (TEXT + "(width):\n", len(TEXT)),
        ("width * height\n    # done", len("width * height\n")),
        ("2 * width", 0),
        ("width + height", len("width ")),
    ],
    ids=["whole", "first line", "rejected", "another end"],
)
def test_the_next_request_shows_what_was_kept(feedback: Feedback, path: Path, typed: str, kept: int) -> None:
    feedback.read("import math\n\n\n" + BEFORE + typed)
    (row,) = read_json_lines(path)
    assert row["kept"] == kept
    assert (row["characters"], row["first_line"], row["probability"]) == (len(TEXT), len("width * height"), 0.25)


@pytest.mark.parametrize("typed", ["wid", "width * height", TEXT, TEXT + "\n    "])
def test_a_request_within_the_text_or_right_behind_it_decides_nothing(
    feedback: Feedback, path: Path, typed: str
) -> None:
    """llama.vim asks behind a text in advance, while it only shows it."""
    feedback.read(BEFORE + typed)
    assert not path.exists()


def test_a_text_that_is_typed_along_counts_once(feedback: Feedback, path: Path) -> None:
    for typed in ("w", "wi", "width"):
        feedback.read(BEFORE + typed)
        feedback.show(BEFORE + typed, Answer(TEXT.removeprefix(typed)))
    feedback.read(BEFORE + TEXT + "(")
    assert outcomes(path) == [len(TEXT) - len("width")]


def test_a_text_asked_for_in_advance_is_judged_apart(feedback: Feedback, path: Path) -> None:
    feedback.read(BEFORE + TEXT)
    feedback.show(BEFORE + TEXT, Answer("(box):\n    return 1"))
    feedback.read(BEFORE + TEXT + "(cube")
    assert outcomes(path) == [len(TEXT), 1]


def test_another_answer_at_the_same_place_replaces_the_first(feedback: Feedback, path: Path) -> None:
    feedback.read(BEFORE)
    feedback.show(BEFORE, Answer("height"))
    feedback.read(BEFORE + "height * 2")
    assert outcomes(path) == [len("height")]


def test_what_became_of_a_text_elsewhere_is_not_known(feedback: Feedback, path: Path) -> None:
    feedback.read("fn main() {\n    let lantern = ")
    assert not path.exists()
    for number in range(PENDING):
        feedback.show(f"fn main() {{\n    let lantern_{number} = ", Answer("1;"))
    assert outcomes(path) == [None]
    feedback.close()
    assert outcomes(path) == [None] * (PENDING + 1)


def test_silence_and_places_without_a_beginning_count_nothing(path: Path) -> None:
    feedback = Feedback(path)
    feedback.show(BEFORE, Answer(""))
    feedback.show("x = ", Answer("1"))
    feedback.close()
    assert not path.exists()


def test_a_file_that_cannot_be_written_costs_no_answer(served: Served, tmp_path: Path) -> None:
    (run,) = served.runs
    before = "LAMPS = [\n    lantern, lantern, lantern,\n    lantern,"
    with running(Served([replace(run, feedback=Feedback(tmp_path / "gone" / "feedback.jsonl"))])) as client:
        for typed in ("", " # lamp"):
            body = {"input_prefix": before + typed, "input_suffix": "\n]\n", "n_predict": 8}
            assert client.post("/infill", json=body).status_code == 200


def test_a_server_records_outcomes_without_code(served: Served, path: Path) -> None:
    (run,) = served.runs
    before = "LAMPS = [\n    lantern, lantern, lantern,\n    lantern,"
    with running(Served([replace(run, feedback=Feedback(path))])) as client:
        body = {"input_prefix": before, "input_suffix": "\n]\n", "n_predict": 8}
        shown = client.post("/infill", json=body).json()["content"]
        assert shown.strip()
        client.post("/infill", json=body | {"input_prefix": f"{before}{shown.rstrip()} # lamp"})
    assert outcomes(path)[0] == len(shown.rstrip())
    assert "lantern" not in path.read_text(encoding="utf-8")

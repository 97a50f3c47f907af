"""Answers are scored as a developer feels them: right lines are accepted, needless changes cost."""

import pytest

from blocklm.evaluation.editor_metrics import accepted_share, delta_chrf, first_line_match, is_quiet

OLD = "def area(radius):\n    return radius * 3\n"
NEW = "def area(radius):\n    return radius * radius * PI\n"


@pytest.mark.parametrize(
    ("prediction", "share"),
    [("a = 1\nbb = 2", 1.0), ("a = 1\nbb = 3", 5 / 11), ("a = 1  \nbb = 2\nmore", 1.0), ("b\nbb = 2", 0.0), ("", 0.0)],
)
def test_lines_are_accepted_up_to_the_first_wrong_one(prediction: str, share: float) -> None:
    assert accepted_share(prediction, "a = 1\nbb = 2") == share


def test_nothing_to_type_is_typed_by_an_empty_answer() -> None:
    assert (accepted_share("", "\n"), accepted_share("x", "\n")) == (1.0, 0.0)


def test_the_first_line_is_compared_without_white_space_at_its_end() -> None:
    assert first_line_match("radius)  \nx", "radius)\ny") == 1
    assert first_line_match("radius", "radius)") == 0
    assert first_line_match("\nradius", "radius") == 0


def test_the_right_change_scores_100_and_a_copy_nothing() -> None:
    assert delta_chrf(OLD, NEW, NEW) == 100
    assert delta_chrf(OLD, OLD, NEW) == 0


def test_a_better_change_scores_more_however_long_the_text_around_it() -> None:
    near, far = NEW.replace("PI", "pi"), OLD.replace("* 3", "+ y")
    alone = [delta_chrf(OLD, text, NEW) for text in (near, far)]
    assert alone[0] > alone[1] > 0
    frame = "".join(f"line {number}\n" for number in range(50))
    assert delta_chrf(frame + OLD, frame + near, frame + NEW) == pytest.approx(alone[0], abs=8)


def test_where_nothing_was_to_change_only_a_copy_is_right() -> None:
    assert (delta_chrf(OLD, OLD, OLD), delta_chrf(OLD, NEW, OLD)) == (100, 0)
    assert (is_quiet(OLD, f"{OLD}\n"), is_quiet(OLD, NEW), is_quiet("a\nb\n", "a  \nb")) == (1, 0, 1)

"""Completions are parts of added lines, windows of edits have a before and an after, and some change nothing."""

import random

import pytest

from blocklm.corpus.places.completion import MAX_CHARS, completions
from blocklm.corpus.places.file_state import file_states
from blocklm.corpus.places.next_edit import CHANGE, QUIET, WINDOW_LINES, edit_window, next_edits, quiet_window
from blocklm.corpus.views import HunkText
from blocklm.mining.hunks import hunks_of

ADDED = "".join(
    f"+def area_{number}(radius, factor):\n+    return radius * factor + {number}\n" for number in range(30)
)


def hunk_of(diff: str, commit: int = 0) -> HunkText:
    (hunk,) = hunks_of(diff)
    return HunkText("demo", f"{commit:040x}", "src/a.py", "Add", 0, hunk.lines)


def test_a_completion_is_what_stands_at_its_place_in_the_added_lines() -> None:
    for commit in range(40):
        hunk = hunk_of(f"@@ -1 +1,61 @@\n import os\n{ADDED}", commit)
        run = "".join(f"{line}\n" for mark, line in hunk.marked if mark == "+")
        for sample in completions(hunk, "Python"):
            first, start, end = sample.place
            assert first == 1
            assert sample.completion == run[start:end]
            assert sample.completion.strip()
            assert len(sample.completion) <= MAX_CHARS
            assert not sample.completion.endswith("\n"), "the line feed behind a cursor is there already"
            assert sample.prompt == ""


def test_completions_begin_at_lines_within_lines_and_at_parts_of_the_syntax_tree() -> None:
    samples = [
        sample
        for commit in range(100)
        for sample in completions(hunk_of(f"@@ -1 +1,61 @@\n import os\n{ADDED}", commit), "Python")
    ]
    texts = {sample.completion for sample in samples}
    assert any(text.startswith("def area") and "\n" in text for text in texts), "whole lines"
    assert any(text.startswith("return radius") for text in texts), "a line after its indentation"
    assert "(radius, factor)" in texts, "a node of the syntax tree"
    assert any(text.startswith("adius") for text in texts), "the rest of a line"


def test_a_language_without_a_grammar_has_completions_too() -> None:
    assert list(completions(hunk_of(f"@@ -1 +1,61 @@\n import os\n{ADDED}"), None))


@pytest.mark.parametrize("line", ["+}", "+", "+   ", "+  );"])
def test_lines_that_say_nothing_are_not_completed(line: str) -> None:
    assert not list(completions(hunk_of(f"@@ -1 +1,2 @@\n a\n{line}\n"), "Rust"))


def test_an_edit_that_does_not_fit_into_a_window_is_left_to_the_other_views() -> None:
    assert not list(next_edits(hunk_of(f"@@ -1 +1,61 @@\n import os\n{ADDED}"), "Python"))


def test_a_quarter_of_the_next_edits_change_nothing() -> None:
    samples = [
        sample for commit in range(600) for sample in next_edits(hunk_of("@@ -1 +1,2 @@\n a\n+b\n", commit), None)
    ]
    quiet = sum(sample.place == (QUIET,) for sample in samples)
    assert sum(sample.place == (CHANGE,) for sample in samples) == 600
    assert 0.2 < quiet / len(samples) < 0.3


OLD = [f"line {number}" for number in range(100)]
NEW = [*OLD[:50], "new 50", *OLD[51:70], *OLD[71:]]
DIFF = (
    "@@ -48,7 +48,7 @@\n line 47\n line 48\n line 49\n-line 50\n+new 50\n line 51\n line 52\n line 53\n"
    "@@ -68,7 +68,6 @@\n line 67\n line 68\n line 69\n-line 70\n line 71\n line 72\n line 73\n"
)


@pytest.mark.parametrize("seed", range(10))
def test_a_window_holds_the_edit_and_the_lines_around_it(seed: int) -> None:
    states = file_states("\n".join(NEW), DIFF)
    assert states is not None
    window = edit_window(states[0], random.Random(seed))
    assert window is not None
    before, after = window.before.splitlines(), window.after.splitlines()
    assert len(before) == WINDOW_LINES
    place = before.index("line 50")
    assert after == [*before[:place], "new 50", *before[place + 1 :]]
    assert "".join(window.after[start:end] for start, end in [window.added]) == "new 50\n"
    start = OLD.index(before[0])
    assert before == OLD[start : start + WINDOW_LINES], "below the edit nothing has been changed yet"


@pytest.mark.parametrize("seed", range(30))
def test_a_quiet_window_holds_no_change_of_the_commit(seed: int) -> None:
    states = file_states("\n".join(NEW), DIFF)
    assert states is not None
    for number in range(2):
        window = quiet_window(states, number, random.Random(seed))
        assert window is not None
        assert window.before == window.after
        assert window.added == ()
        lines = window.before.splitlines()
        assert lines == OLD[OLD.index(lines[0]) :][: len(lines)]
        assert not {"line 50", "new 50", "line 70"}.intersection(lines)

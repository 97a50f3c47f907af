"""The exact text of the edit view, and that its windows lose nothing."""

from itertools import pairwise
from pathlib import Path

import pytest

from blocklm.hunks import hunks_of
from blocklm.views import (
    CARRIED_LINES,
    FAMILIES,
    WINDOW_CHARS,
    WINDOW_LINES,
    Family,
    Sample,
    family_of,
    render_edit,
    windows,
)
from tests.conftest import STARCODER2_TOKENS, history_of

DIFF = "@@ -1,3 +1,4 @@\n import os\n-x = 1\n+x = 2\n+y = 3\n print(x)\n"
PLAIN = next(family for family in FAMILIES if family.name == "plain")
STARCODER2 = next(family for family in FAMILIES if family.name == "starcoder2")


def render(family: Family, diff: str = DIFF) -> list[Sample]:
    (hunk,) = hunks_of(diff)
    return list(render_edit(family, "demo", "c" * 40, "src/a.py", "Raise x\n\nBecause.", 0, hunk.lines))


def test_plain_text_for_models_without_a_grammar_of_their_own() -> None:
    (sample,) = render(PLAIN)
    assert sample.prompt == ("### demo/src/a.py\n### Raise x\noriginal:\nimport os\nx = 1\nprint(x)\n\nupdated:\n")
    assert sample.completion == "import os\nx = 2\ny = 3\nprint(x)\n"


def test_starcoder2_reads_its_own_tokens() -> None:
    (sample,) = render(STARCODER2)
    assert sample.prompt == (
        "<repo_name>demo<file_sep>src/a.py\nimport os\nx = 1\nprint(x)\n"
        "<file_sep>commit_message\nRaise x<file_sep>src/a.py\n"
    )
    assert sample.completion == "import os\nx = 2\ny = 3\nprint(x)\n"


def test_the_added_text_is_marked() -> None:
    (sample,) = render(PLAIN)
    start, end = sample.added
    assert sample.completion[start:end] == "x = 2\ny = 3\n"


@pytest.mark.parametrize(
    ("tokens", "family"),
    [
        (STARCODER2_TOKENS, "starcoder2"),
        (["<repo_name>", "<file_sep>", "<|im_end|>"], "plain"),  # SmolLM2: the tokens without the training
        ([], "plain"),
    ],
)
def test_the_family_is_told_by_vocabulary(tokens: list[str], family: str) -> None:
    assert family_of(frozenset(tokens)).name == family


def test_a_change_that_adds_nothing_teaches_no_edit() -> None:
    assert render(PLAIN, "@@ -1,2 +1 @@\n import os\n-x = 1\n") == []
    assert render(PLAIN, "@@ -1 +1,2 @@\n import os\n+   \n") == []


def test_lines_that_look_like_headers_are_text() -> None:
    (sample,) = render(PLAIN, "@@ -1 +1,3 @@\n a\n+++ b/x\n+-- c\n")
    assert sample.completion == "a\n++ b/x\n-- c\n"


def test_samples_of_one_change_have_names_of_their_own() -> None:
    diff = "@@ -1 +1,200 @@\n a\n" + "".join(f"+line {number}\n" for number in range(200))
    names = [sample.id for sample in render(PLAIN, diff)]
    assert len(names) == len(set(names)) > 4


def test_windows_are_bounded_and_carry_the_lines_before(project: Path) -> None:
    hunk = [("+", f"line {number}" + (" " if number % 7 else "")) for number in range(300)]
    cut = list(windows(hunk))
    assert all(len(window) <= WINDOW_LINES + CARRIED_LINES for window in cut)
    for before, after in pairwise(cut):
        assert after[:CARRIED_LINES] == [(" ", text) for _, text in before[-CARRIED_LINES:]]
    long = [("+", "x" * 600)] * 9
    assert all(
        sum(len(text) for _, text in window) < WINDOW_CHARS + 600 * (1 + CARRIED_LINES) for window in windows(long)
    )


def test_windows_of_a_real_history_put_together_are_its_hunks(project: Path) -> None:
    """Before-window plus the window's changes is the after-window, and nothing is lost between windows."""
    seen = 0
    for commit in history_of(project):
        for change in commit.files:
            for lines in (hunk.lines for hunk in hunks_of(change.diff)):
                hunk = [(line[0], line[1:]) for line in lines]
                cut = list(windows(hunk))
                joined = list(cut[0])
                for previous, window in pairwise(cut):
                    joined += window[min(CARRIED_LINES, sum(tag != "-" for tag, _ in previous)) :]
                assert joined == hunk
                seen += 1
    assert seen > 30

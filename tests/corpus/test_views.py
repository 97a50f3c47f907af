"""Every view has its exact text, for StarCoder2 and as plain text, and its windows lose nothing.

How places are found and read is tested in `tests/corpus/places`; here are the prompts that they become.
"""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from blocklm.corpus import views
from blocklm.corpus.places.place import FilePiece, Place, RecentEdit
from blocklm.corpus.prompt_templates import FAMILY, TOKEN, Family
from blocklm.corpus.rendering import AT_PLACES
from blocklm.corpus.views import OF_HUNK, HunkText, Sample
from blocklm.corpus.windows import CARRIED_LINES, WINDOW_CHARS, WINDOW_LINES, windows
from blocklm.mining.hunks import hunks_of
from tests.conftest import ROOT, history_of

PLAIN = FAMILY["plain"]
GOLDEN = ROOT / "tests/data"
DIFF = "@@ -1,3 +1,4 @@\n import os\n-x = 1\n+x = 2\n+y = compute(x)\n print(x)\n"
MESSAGE = "Raise x (#12)\n\nBecause."


def text_of(diff: str = DIFF, message: str = MESSAGE, number: int = 0) -> HunkText:
    (hunk,) = hunks_of(diff)
    return HunkText("demo", "c" * 40, "src/a.py", message, number, hunk.lines)


def edit(diff: str) -> list[Sample]:
    return list(views.edit(PLAIN, text_of(diff)))


def at_place(family: Family, view: str, place: Place, completion: str) -> Sample:
    """A sample at a place in a file, with its prompt."""
    prompt = family.prompt_at(view, place)
    added = (0, len(completion))
    return Sample("", view, prompt.text, prompt.context, completion, added, prompt.suffix, prompt.pieces)


def every_place(family: Family) -> list[Sample]:
    """The views at a place, of an editor that tells the path, and of one that does not."""
    edits = [RecentEdit("src/b.py", "x = 0\n", "x = 1\n")]
    piece = [FilePiece("src/compute.py", "def compute(x):\n")]
    return [
        at_place(family, view, Place("demo", path, before, after, edits, piece), completion)
        for path in ("src/a.py", None)
        for view, before, after, completion in (
            ("completion", "import os\nx = 2\ny = ", "\nprint(x)\n", "compute(x)"),
            ("next_edit", "import os\nx = 1\nprint(x)\n", "", "import os\nx = 2\ny = compute(x)\nprint(x)\n"),
        )
    ]


def every_view(family: Family) -> list[Sample]:
    """Each view of one small history: a change, its fix, and the file at the end."""
    change = text_of()
    repair = text_of("@@ -2 +2 @@\n-y = compute(x)\n+y = compute(x, 0)\n", "Fix the wrong argument")
    file = text_of("@@ -0,0 +1,3 @@\n+import os\n+x = 2\n+y = compute(x, 0)\n", "")
    return [
        *(sample for render in OF_HUNK.values() for sample in render(family, change)),
        *views.message(family, [change, repair]),
        *views.review(family, change, repair),
        *views.file(family, file),
        *every_place(family),
    ]


@pytest.mark.parametrize("name", ["starcoder2", "qwen-coder", "plain"])
def test_the_views_of_a_small_history_match_the_golden_files(name: str) -> None:
    """A changed prompt makes every adapter trained before it worse: change the golden file on purpose or not at all."""
    made = [
        {"view": sample.view, "prompt": sample.prompt, "completion": sample.completion}
        for sample in every_view(FAMILY[name])
    ]
    assert made == json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def added_text(sample: Sample) -> list[str]:
    return [sample.completion[start:end] for start, end in zip(sample.added[::2], sample.added[1::2], strict=True)]


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_families_differ_only_in_what_stands_before_the_text_of_a_commit(name: str) -> None:
    for sample, plain in zip(every_view(FAMILY[name]), every_view(PLAIN), strict=True):
        assert (sample.view, added_text(sample)) == (plain.view, added_text(plain))
        if sample.view != "file":
            assert sample.completion == plain.completion
            assert sample.prompt


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_a_file_is_learned_with_its_path(name: str) -> None:
    """The loss is taken on all tokens: there is no prompt, and the exam scores the lines without the path."""
    (sample,) = [sample for sample in every_view(FAMILY[name]) if sample.view == "file"]
    assert (sample.prompt, sample.context) == ("", (0, 0))
    path, lines = sample.completion[: sample.added[0]], sample.completion[sample.added[0] :]
    assert "src/a.py" in path
    assert lines == "import os\nx = 2\ny = compute(x, 0)\n"
    assert sample.completion == FAMILY[name].prompt("file", repo="demo", path="src/a.py", context=lines).text


def frame_of(sample: Sample) -> str:
    """A prompt without the parts that may be cut."""
    spans = [*sample.context, *sample.suffix, *sample.pieces]
    left = set(range(len(sample.prompt)))
    for start, end in zip(spans[::2], spans[1::2], strict=True):
        left -= set(range(start, end))
    return "".join(sample.prompt[place] for place in sorted(left))


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_only_text_of_files_may_be_cut_from_a_prompt(name: str) -> None:
    family = FAMILY[name]
    for sample in every_view(family):
        if sample.view not in ("completion", "next_edit", "file"):
            assert set(TOKEN.findall(frame_of(sample))) == set(TOKEN.findall(family.prompts[sample.view]))
            assert "compute" not in frame_of(sample)


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_at_a_place_the_text_around_and_the_edits_may_be_cut_but_not_the_lines_to_edit(name: str) -> None:
    family = FAMILY[name]
    for sample, form in zip(every_place(family), ("", "", "_unnamed", "_unnamed"), strict=True):
        frame = frame_of(sample)
        assert set(TOKEN.findall(frame)) == set(TOKEN.findall(family.prompts[sample.view + form]))
        assert "compute" not in frame and "x = 0" not in frame
        if sample.view == "completion":
            assert "import os" not in frame and "print(x)" not in frame
            assert sample.prompt[slice(*sample.context)].endswith("y = ")
            assert sample.prompt[slice(*sample.suffix)] == "\nprint(x)\n"
        else:
            assert "import os\nx = 1\nprint(x)\n" in frame
            assert (sample.context, sample.suffix) == ((0, 0), ())
        given = [sample.prompt[start:end] for start, end in zip(sample.pieces[::2], sample.pieces[1::2], strict=True)]
        assert ["def compute(x):" in text for text in given] == [True, False], "recent edits stand nearest"
        assert "x = 0\n" in given[1] and "x = 1\n" in given[1]


@pytest.mark.parametrize("name", sorted(FAMILY))
def test_an_editor_that_tells_no_path_gets_a_prompt_without_one(name: str) -> None:
    for sample in every_place(FAMILY[name])[2:]:
        assert "demo" not in sample.prompt and "src/a.py" not in sample.prompt


def test_braces_in_a_repository_are_text() -> None:
    (sample,) = edit("@@ -1 +1,2 @@\n let a = {repo};\n+let b = {0};\n")
    assert sample.completion == "let a = {repo};\nlet b = {0};\n"
    assert "{repo}" in sample.prompt


def test_the_added_text_is_marked() -> None:
    (sample,) = edit(DIFF)
    assert added_text(sample) == ["x = 2\ny = compute(x)\n"]
    (sample,) = views.diff(PLAIN, text_of())
    assert added_text(sample) == ["x = 2\n", "y = compute(x)\n"]


def test_a_change_without_added_text_makes_no_sample() -> None:
    for diff in ("@@ -1,2 +1 @@\n import os\n-x = 1\n", "@@ -1 +1,2 @@\n import os\n+   \n"):
        assert not [sample for render in OF_HUNK.values() for sample in render(PLAIN, text_of(diff))]
        assert not [sample for find in AT_PLACES.values() for sample in find(text_of(diff), "Python")]


def test_lines_that_look_like_headers_are_text() -> None:
    (sample,) = edit("@@ -1 +1,3 @@\n a\n+++ b/x\n+-- c\n")
    assert sample.completion == "a\n++ b/x\n-- c\n"


def test_samples_of_one_change_have_distinct_ids() -> None:
    diff = "@@ -1 +1,200 @@\n a\n" + "".join(f"+line number {number}\n" for number in range(200))
    names = [sample.id for render in OF_HUNK.values() for sample in render(PLAIN, text_of(diff))]
    names += [sample.id for find in AT_PLACES.values() for sample in find(text_of(diff), "Python")]
    assert len(names) == len(set(names)) > 8


def test_a_message_prompt_shows_the_smallest_hunks_that_fit() -> None:
    small, large = text_of(), text_of("@@ -1 +1,99 @@\n a\n" + "+a long added line of text\n" * 99, number=1)
    (sample,) = views.message(PLAIN, [large, small])
    assert sample.completion == "Raise x\n"
    assert "+x = 2" in sample.prompt
    assert "a long added line" not in sample.prompt
    assert not list(views.message(PLAIN, [large]))


def test_windows_are_bounded_and_carry_the_lines_before() -> None:
    hunk = [("+", f"line {number}" + (" " if number % 7 else "")) for number in range(300)]
    cut = list(windows(hunk))
    assert all(len(window) <= WINDOW_LINES + CARRIED_LINES for window in cut)
    for before, after in pairwise(cut):
        assert after[:CARRIED_LINES] == [(" ", text) for _, text in before[-CARRIED_LINES:]]
    long = [("+", "x" * 600)] * 9
    assert all(
        sum(len(text) for _, text in window) < WINDOW_CHARS + 600 * (1 + CARRIED_LINES) for window in windows(long)
    )


def real_hunks(path: Path) -> list[HunkText]:
    return [
        HunkText("r", commit.sha, change.path, commit.message, number, hunk.lines)
        for commit in history_of(path)
        for change in commit.files
        for number, hunk in enumerate(hunks_of(change.diff))
    ]


@pytest.fixture(scope="module", params=["project", "itself"])
def hunks(request: pytest.FixtureRequest, project: Path) -> list[HunkText]:
    """The hunks of an invented history and, in a clone, of our own."""
    if request.param == "itself" and not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    return real_hunks(project if request.param == "project" else ROOT)


def test_windows_in_order_give_back_their_hunk(hunks: list[HunkText]) -> None:
    """The old lines of a window with its changes are its new lines, and nothing is lost between windows."""
    assert len(hunks) > 30
    for text in hunks:
        cut = list(windows(text.marked))
        joined = list(cut[0]) if cut else []
        for previous, window in pairwise(cut):
            joined += window[min(CARRIED_LINES, sum(mark != "-" for mark, _ in previous)) :]
        assert joined == text.marked


def test_both_sides_of_an_edit_come_from_the_lines_of_the_diff(hunks: list[HunkText]) -> None:
    bare = Family("", frozenset(), {"edit": "{context}", "diff": "{context}"})
    for text in hunks:
        edits, diffs = list(views.edit(bare, text)), list(views.diff(bare, text))
        for edited, shown in zip(edits, diffs, strict=True):
            lines = shown.completion.split("\n")[:-1]
            assert "".join(f"{line[1:]}\n" for line in lines if line[0] != "+") == edited.prompt
            assert "".join(f"{line[1:]}\n" for line in lines if line[0] != "-") == edited.completion

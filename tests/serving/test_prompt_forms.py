"""Prompts that clients word themselves are understood, whatever family they were worded for."""

import pytest

from blocklm.corpus.places.place import FilePiece, Place, RecentEdit
from blocklm.corpus.prompt_templates import FAMILY
from blocklm.serving.protocols.fim_prompt import find_gap, without_hints
from blocklm.serving.protocols.sweep_prompt import find_edit
from blocklm.serving.question import Gap, NextEdit

BEFORE, AFTER = "def add(a, b):\n    return ", "\n\n\nprint(add(1, 2))\n"


@pytest.mark.parametrize(
    "prompt",
    [
        f"<fim_prefix>{BEFORE}<fim_suffix>{AFTER}<fim_middle>",
        f"<fim_suffix>{AFTER}<fim_prefix>{BEFORE}<fim_middle>",
        f"<fim-prefix>{BEFORE}<fim-suffix>{AFTER}<fim-middle>",
        f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>",
        f"<|fim_suffix|>{AFTER}<|fim_prefix|>{BEFORE}<|fim_middle|>",
        f"<｜fim▁begin｜>{BEFORE}<｜fim▁hole｜>{AFTER}<｜fim▁end｜>",  # noqa: RUF001
        f"<PRE> {BEFORE} <SUF>{AFTER} <MID>",
        f"▁<PRE>{BEFORE}▁<SUF>{AFTER}▁<MID>",
        f"[SUFFIX]{AFTER}[PREFIX]{BEFORE}",
        f"<|code_prefix|>{BEFORE}<|code_suffix|>{AFTER}<|code_middle|>",
    ],
)
def test_a_gap_is_found_in_the_form_of_each_family(prompt: str) -> None:
    assert find_gap(prompt) == Gap(BEFORE, AFTER)


@pytest.mark.parametrize(
    "prompt",
    [
        f"<|repo_name|>shop\n<|file_sep|>a.py\nx = 1\n<|file_sep|>b/c.py\n<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>",
        f"<repo_name>shop<file_sep>a.py\nx = 1\n<file_sep><fim_prefix>b/c.py\n{BEFORE}<fim_suffix>{AFTER}<fim_middle>",
        f"<reponame>shop<filename>a.py\nx = 1\n<filename>b/c.py\n<fim_prefix>{BEFORE}<fim_suffix>{AFTER}<fim_middle>",
        f"[SUFFIX]{AFTER}[PREFIX]+++++ a.py\nx = 1\n\n+++++ b/c.py\n{BEFORE}",
    ],
)
def test_the_path_and_other_files_are_found_too(prompt: str) -> None:
    assert find_gap(prompt) == Gap(BEFORE, AFTER, "b/c.py", (FilePiece("a.py", "x = 1\n"),))


@pytest.mark.parametrize("name", ["starcoder2", "starcoder", "qwen-coder", "deepseek-coder", "code-llama"])
def test_our_own_prompts_are_understood(name: str) -> None:
    for path in ("b/c.py", None):
        gap = find_gap(FAMILY[name].prompt_at("completion", Place("shop", path, BEFORE, AFTER)).text)
        assert gap is not None
        assert gap.before.endswith(BEFORE) and gap.after == AFTER


@pytest.mark.parametrize(
    "text",
    ["x = 1\n", "<fim_prefix>x<fim_suffix>y", "<fim_middle><fim_prefix>", "<fim_suffix>a<fim_middle>", "[PREFIX]a"],
)
def test_a_text_that_marks_no_gap_is_none(text: str) -> None:
    assert find_gap(text) is None


def test_finding_a_gap_takes_time_in_proportion_to_the_prompt() -> None:
    """A pattern that tries every pair of markers would take hours."""
    for text in ("<fim_prefix><fim_suffix>" * 40_000, "<fim_middle>" * 80_000 + "x", "[SUFFIX]" * 100_000):
        assert find_gap(text) is None
        assert find_edit(text) is None


@pytest.mark.parametrize("mark", ["# {}", "// {}", "-- {}", "/* {} */", "<!-- {} -->"])
def test_lines_about_the_language_are_left_out(mark: str) -> None:
    hints = mark.format("language: python") + "\n" + mark.format("indentation: use 4 spaces for a tab") + "\n"
    assert without_hints(hints + BEFORE) == BEFORE
    assert without_hints(BEFORE) == BEFORE
    assert without_hints("language = 1\n" + BEFORE) == "language = 1\n" + BEFORE


def test_a_next_edit_is_found_in_the_form_of_sweep() -> None:
    prompt = (
        "<|file_sep|>lib.py\nONE = 1\n"
        "<|file_sep|>a.py.diff\noriginal:\nx = 1\n\nupdated:\nx = 2\n"
        "<|file_sep|>original/b.py\ny = 1\nz = 1\n"
        "<|file_sep|>current/b.py\ny = 2<|cursor|>\nz = 1\n"
        "<|file_sep|>updated/b.py\n"
    )
    window = "y = 2\nz = 1\n"
    edits = (RecentEdit("a.py", "x = 1\n", "x = 2\n"), RecentEdit("b.py", "y = 1\nz = 1\n", window))
    assert find_edit(prompt) == NextEdit("b.py", window, edits, (FilePiece("lib.py", "ONE = 1\n"),))


def test_our_own_next_edit_is_understood() -> None:
    place = Place("shop", "b.py", "y = 1\n", edits=[RecentEdit("a.py", "x = 1\n", "x = 2\n")])
    found = find_edit(FAMILY["qwen-coder"].prompt_at("next_edit", place).text)
    assert found is not None and (found.path, found.window) == ("b.py", "y = 1\n")


def test_a_prompt_about_a_gap_is_no_next_edit() -> None:
    assert find_edit("<|file_sep|>a.py\nx\n<|file_sep|>b.py\n<|fim_prefix|>y<|fim_suffix|><|fim_middle|>") is None

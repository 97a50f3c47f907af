"""Hunks are compared apart from white space."""

import pytest

from blocklm.mining.filters import FilterLimits, screen_hunks
from blocklm.mining.hunks import hunks_of, removed_lines

MOVED = "def parse(text):\n    tree = read(text)\n    check(tree)\n    store(tree)\n    return tree"
HERE = "@@ -1 +1,4 @@\n import a\n" + "".join(f"+{line}\n" for line in MOVED.split("\n"))
THERE = "@@ -5,4 +5 @@\n x = 1\n" + "".join(f"-{line}\n" for line in MOVED.split("\n"))
LIMITS = FilterLimits(1000)


def verdicts(diff: str, *others: str, limits: FilterLimits = LIMITS) -> list[str | None]:
    return screen_hunks(hunks_of(diff), removed_lines([diff, *others]), limits)


def test_a_diff_is_split_into_its_hunks() -> None:
    first, second = hunks_of(
        "@@ -1,2 +1,2 @@ def f():\n a\n-b\n+@@ c\n@@ -9 +9 @@\n-++d\n+--e\n\\ No newline at end of file\n"
    )
    assert (first.removed, first.added) == (["b"], ["@@ c"])
    assert (second.removed, second.added) == (["++d"], ["--e"])
    assert hunks_of("") == []


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        ("@@ -1 +1 @@\n-    x = f(1,2)\n+  x = f(1, 2)\n", "format"),
        ("@@ -1 +1,2 @@\n-x = f(1, 2)\n+x = f(\n+    1, 2)\n", "format"),
        ("@@ -1 +1 @@\n-x = f(1, 2)\n+x = f(1, 3)\n", None),
        ("@@ -1 +1,3 @@\n x\n+\n+    }\n", "trivial"),
        ("@@ -1,2 +1 @@\n x\n-y = 1\n", "trivial"),
        ("@@ -1 +1,2 @@\n x\n+修复\n", None),
    ],
)
def test_hunks_without_new_text_have_a_reason(diff: str, reason: str | None) -> None:
    assert verdicts(diff) == [reason]


def test_lines_moved_within_a_commit_are_no_new_text() -> None:
    assert verdicts(HERE, THERE) == ["move"]
    assert verdicts(HERE) == [None]
    assert verdicts(HERE, THERE, limits=FilterLimits(1000, disabled=("move",))) == [None]


def test_lines_that_are_only_indented_are_no_move() -> None:
    wrapped = THERE.replace(" x = 1\n", "") + "+if ready:\n" + "".join(f"+    {line}\n" for line in MOVED.split("\n"))
    assert verdicts(wrapped) == [None]

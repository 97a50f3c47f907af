"""The recent edits at a place are those above it, then those of the most related files before."""

from blocklm.corpus.places.co_changes import CoChanges
from blocklm.corpus.places.recent_edits import CommitHunk, recent_edits, shared_folders


def hunk(path: str, text: str) -> CommitHunk:
    return CommitHunk(path, [(" ", "start"), ("-", "old"), ("+", text)])


def test_edits_above_the_place_come_last_and_first_of_all() -> None:
    own = [hunk("a.py", f"own {number}") for number in range(6)]
    edits = recent_edits(own, [hunk("b.py", "other")], "", {"b.py": 2.0})
    assert [edit.updated for edit in edits] == [f"start\nown {number}\n" for number in (2, 3, 4, 5)]
    assert edits[0].original == "start\nold\n"


def test_other_files_fill_what_is_left_the_most_related_last() -> None:
    others = [hunk("far.py", "x = 1"), hunk("near.py", "y = 2"), hunk("named.py", "compute_total(z)")]
    relation = {"far.py": 0.0, "near.py": 0.5, "named.py": 0.0}
    edits = recent_edits([hunk("a.py", "own")], others, "return compute_total(a)", relation)
    assert [edit.path for edit in edits] == ["far.py", "near.py", "named.py", "a.py"]


def test_a_change_of_blank_lines_is_no_edit() -> None:
    assert recent_edits([CommitHunk("a.py", [("+", "   "), (" ", "x")])], [], "", {}) == []


def test_files_that_changed_together_before_are_related() -> None:
    together = CoChanges([("a", 0), ("b", 0), ("a", 1), ("c", 1), ("a", 2), ("b", 2), ("a", 3), ("c", 3)])
    assert together.share("a", "b", before=3) == 2 / 3
    assert together.share("a", "c", before=3) == 1 / 3
    assert together.share("a", "c", before=0) == 0.0


def test_folders_are_shared_from_the_top() -> None:
    assert shared_folders("src/io/a.rs", "src/io/b.rs") == 1.0
    assert shared_folders("src/io/a.rs", "src/net/b.rs") == 0.5
    assert shared_folders("src/io/a.rs", "tests/io/b.rs") == 0.0
    assert shared_folders("a.rs", "src/b.rs") == 1.0

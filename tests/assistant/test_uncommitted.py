"""What was edited in a file since the last commit is shown as recent edits."""

from pathlib import Path

from blocklm.assistant.uncommitted import uncommitted_edits
from tests.conftest import GitRepository

OLD = "".join(f"line {number}\n" for number in range(60))


def test_uncommitted_edits_are_shown_in_the_order_of_the_file(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "demo")
    repository.commit("Begin", {"src/a.py": OLD})
    (repository.path / "src/a.py").write_text(OLD.replace("line 5\n", "line five\n").replace("line 40\n", ""))
    first, second = uncommitted_edits(repository.path, "src/a.py")
    assert first.path == "src/a.py"
    assert "line 5\n" in first.original and "line five\n" in first.updated
    assert "line 40\n" in second.original and "line 40\n" not in second.updated


def test_a_file_without_a_committed_version_has_no_edits(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "demo")
    repository.commit("Begin", {"b.py": OLD})
    (repository.path / "new.py").write_text(OLD)
    assert uncommitted_edits(repository.path, "new.py") == []
    assert uncommitted_edits(tmp_path, "demo/b.py") == []

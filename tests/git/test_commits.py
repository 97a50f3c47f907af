"""History is read in landing order, completely, and without running anything the repository names."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import GitRepository, history_of

Make = Callable[[str], GitRepository]


def test_commits_come_oldest_first_and_branches_just_before_their_merge(project: Path) -> None:
    history = history_of(project)
    assert len(history) == 35
    assert [commit.seq for commit in history] == list(range(35))
    titles = [commit.message.partition("\n")[0] for commit in history]
    merge = titles.index("Merge side")
    assert titles[merge - 1] == "Add the side door, thanks @grace"
    assert not history[merge].files


def test_a_change_carries_paths_kind_blobs_and_hunks(make_repository: Make) -> None:
    repository = make_repository("changes")
    repository.commit("one", {"a.py": "x = 1\ny = 2\n", "gone.py": "z\n"})
    repository.git("mv", "a.py", "b.py")
    sha = repository.commit("two", {"b.py": "x = 1\ny = 3\n", "gone.py": None})
    change, deletion = history_of(repository.path)[1].files
    assert (change.old_path, change.path, change.change_type) == ("a.py", "b.py", "rename")
    assert change.after_blob == repository.git("rev-parse", f"{sha}:b.py").strip()
    assert change.diff == "@@ -1,2 +1,2 @@\n x = 1\n-y = 2\n+y = 3\n"
    assert (change.added, change.deleted) == (1, 1)
    assert (deletion.path, deletion.change_type, deletion.after_blob) == ("gone.py", "delete", None)


def test_authors_are_pseudonymous(make_repository: Make) -> None:
    repository = make_repository("authors")
    repository.commit("one", {"a.py": "1\n"})
    repository.commit("two", {"a.py": "2\n"})
    repository.git("commit", "--quiet", "--allow-empty", "--author", "Grace <grace@example.org>", "--message", "three")
    first, second, third = [commit.author for commit in history_of(repository.path)]
    assert first == second != third
    assert "ada" not in first.lower()


def test_a_missing_object_loses_one_commit_and_not_the_traversal(make_repository: Make) -> None:
    repository = make_repository("damaged")
    for number in range(4):
        repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"})
    blob = repository.git("rev-parse", "HEAD~1:a.py").strip()
    (repository.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    history = history_of(repository.path)
    assert [bool(commit.error) for commit in history] == [False, False, True, True]


def test_a_missing_commit_object_ends_the_history_there_and_no_more(make_repository: Make) -> None:
    repository = make_repository("torn")
    shas = [repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"}) for number in range(5)]
    (repository.path / ".git" / "objects" / shas[1][:2] / shas[1][2:]).unlink()
    history = history_of(repository.path)
    assert [commit.sha for commit in history] == shas[2:]
    assert [bool(commit.error) for commit in history] == [True, False, False]


def test_text_that_is_not_utf8_is_marked(make_repository: Make) -> None:
    repository = make_repository("latin")
    repository.commit("latin", {"a.py": "s = 'für'\n".encode("latin-1"), "b.py": "s = 'für'\n"})
    latin, unicode = history_of(repository.path)[0].files
    assert latin.lossy
    assert not unicode.lossy


def test_an_inherited_git_environment_has_no_effect(project: Path, tmp_path: Path) -> None:
    """A hook that starts us sets `GIT_DIR`; a user's `GIT_DIFF_OPTS` would change the hunks."""
    code = (
        "import sys; from pathlib import Path; from tests.conftest import history_of; "
        "print([change.diff for commit in history_of(Path(sys.argv[1])) for change in commit.files])"
    )
    mined = []
    for leak in ({}, {"GIT_DIR": str(tmp_path), "GIT_INDEX_FILE": str(tmp_path), "GIT_DIFF_OPTS": "--unified=0"}):
        command = [sys.executable, "-c", code, str(project)]
        done = subprocess.run(command, env=os.environ | leak, capture_output=True, text=True, check=True)
        mined.append(done.stdout)
    assert mined[0] == mined[1]
    assert len(mined[0]) > 1000


def test_a_shallow_boundary_is_no_giant_commit(project: Path, tmp_path: Path) -> None:
    subprocess.run(
        ["git", "clone", "--quiet", "--depth", "3", f"file://{project}", str(tmp_path / "shallow")], check=True
    )
    history = history_of(tmp_path / "shallow")
    assert history[0].error is not None
    assert "shallow" in history[0].error
    assert [bool(commit.files) for commit in history] == [False, True, True]


@pytest.mark.parametrize("header", ["encoding undefined", "encoding idna", "encoding utf-7", "encoding a\0b"])
def test_a_malformed_commit_loses_at_most_itself(make_repository: Make, header: str) -> None:
    repository = make_repository("odd")
    for number in range(3):
        repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"})
    raw = repository.git("cat-file", "commit", "HEAD").replace("\n\n", f"\n{header}\n\n+2AA- ", 1)
    command = ["git", "-C", str(repository.path), "hash-object", "-t", "commit", "-w", "--literally", "--stdin"]
    sha = subprocess.run(command, input=raw.encode(), capture_output=True, check=True).stdout.decode().strip()
    repository.git("update-ref", "refs/heads/main", sha)
    history = history_of(repository.path)
    assert [bool(commit.error) for commit in history] == [False] * 3
    history[2].message.encode()


def test_a_commit_graph_does_not_hide_a_missing_commit(make_repository: Make) -> None:
    repository = make_repository("graph")
    shas = [repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"}) for number in range(5)]
    repository.git("commit-graph", "write", "--reachable")
    (repository.path / ".git" / "objects" / shas[1][:2] / shas[1][2:]).unlink()
    assert [commit.sha for commit in history_of(repository.path)] == shas[2:]

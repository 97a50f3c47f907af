"""Any repository is found and opened unchanged, or refused with the reason."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.git.commits import read_commits
from blocklm.git.repository import Repository, open_repository
from blocklm.git.rev_list import list_commits
from tests.conftest import GitRepository, history_of

Make = Callable[[str], GitRepository]


def opened(path: Path, branch: str | None = None) -> Repository:
    return open_repository(path, path.parent / "clones", branch)


def run(*command: str | Path) -> None:
    subprocess.run([*map(str, command)], check=True, capture_output=True)


@pytest.mark.parametrize(("folder", "name"), [("plain", "plain"), ("...git", "repository"), ("a b", "a-b")])
def test_a_folder_name_cannot_lead_out_of_the_corpus(make_repository: Make, folder: str, name: str) -> None:
    repository = make_repository(folder)
    repository.commit("one", {"a.py": "1\n"})
    assert opened(repository.path).name == name


def test_the_home_of_no_user_is_refused() -> None:
    with pytest.raises(UserError, match="does not exist"):
        opened(Path("~no-such-user/project"))


@pytest.mark.parametrize("kind", ["absent", "zip", "unborn"])
def test_a_folder_that_is_no_repository_is_refused(make_repository: Make, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "unborn":
        make_repository(kind)
    elif kind == "zip":
        (path / "src").mkdir(parents=True)
    message = {"absent": "does not exist", "zip": "is not a git repository", "unborn": "has no commits"}[kind]
    with pytest.raises(UserError, match=message):
        opened(path)


def test_a_work_tree_a_bare_clone_and_a_linked_work_tree_read_alike(project: Path, tmp_path: Path) -> None:
    run("git", "clone", "--quiet", "--bare", project, tmp_path / "bare.git")
    run("git", "clone", "--quiet", project, tmp_path / "clone")
    run("git", "-C", tmp_path / "clone", "worktree", "add", "--quiet", "--detach", tmp_path / "linked")
    expected = [(commit.sha, len(commit.files)) for commit in history_of(project)]
    for path in (tmp_path / "bare.git", tmp_path / "clone", tmp_path / "linked"):
        assert [(commit.sha, len(commit.files)) for commit in history_of(path)] == expected, path


def test_a_bare_clone_whose_config_does_not_say_so_is_read(project: Path, tmp_path: Path) -> None:
    """Plain PyDriller takes the parent folder for the work tree and fails."""
    run("git", "clone", "--quiet", "--bare", project, tmp_path / "bare")
    run("git", "-C", tmp_path / "bare", "config", "--unset", "core.bare")
    assert len(history_of(tmp_path / "bare")) == 35


def test_replaced_commits_do_not_change_the_history(make_repository: Make) -> None:
    repository = make_repository("replaced")
    shas = [repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"}) for number in range(3)]
    repository.git("replace", "--force", shas[1], shas[0])
    assert [commit.message for commit in history_of(repository.path)] == ["commit 0", "commit 1", "commit 2"]


@pytest.mark.parametrize("name", ["feature/x", "v1", "HEAD~1"])
def test_a_branch_a_tag_or_a_revision_can_be_read(make_repository: Make, name: str) -> None:
    repository = make_repository("branches")
    repository.commit("one", {"a.py": "1\n"})
    repository.git("tag", "--annotate", "--message", "first", "v1")
    repository.git("branch", "feature/x")
    repository.commit("two", {"a.py": "2\n"})
    chosen = opened(repository.path, name)
    assert [commit.message for commit in read_commits(chosen, list_commits(chosen))] == ["one"]


def test_an_unknown_branch_is_refused(project: Path) -> None:
    for name in ("--output=x", "^HEAD"):
        with pytest.raises(UserError, match="is not in"):
            opened(project, name)


def test_a_clone_that_shares_another_ones_objects_is_read(project: Path, tmp_path: Path) -> None:
    run("git", "clone", "--quiet", "--shared", project, tmp_path / "shared")
    assert len(history_of(tmp_path / "shared")) == 35


def test_a_partial_clone_is_counted_and_never_fetches(project: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    run("git", "clone", "--quiet", "--bare", project, source)
    run("git", "-C", source, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "partial"
    run("git", "clone", "--quiet", "--bare", "--filter=blob:none", f"file://{source}", clone)
    before = sorted((clone / "objects" / "pack").iterdir())
    history = history_of(clone)
    assert len(history) == 35
    assert [bool(commit.error) for commit in history if len(commit.parents) < 2] == [True] * 34
    assert sorted((clone / "objects" / "pack").iterdir()) == before


def test_a_repository_that_belongs_to_somebody_else_is_read_without_its_configuration(
    project: Path, tmp_path: Path
) -> None:
    """Git refuses such a repository because of what its config could run; ours does not read it."""
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    clone = tmp_path / "foreign"
    run("git", "clone", "--quiet", "--bare", project, clone)
    for path in (clone, *clone.rglob("*")):
        os.chown(path, 12345, 12345)
    refused = subprocess.run(["git", "-C", str(clone), "log", "-1"], capture_output=True, text=True, check=False)
    assert "dubious ownership" in refused.stderr
    assert len(history_of(clone)) == 35

"""A URL is cloned once, bare and with its blobs; nothing that a URL can name is run."""

import subprocess
from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.git.repository import open_repository
from tests.conftest import GitRepository, history_of


@pytest.fixture
def served(tmp_path: Path) -> GitRepository:
    repository = GitRepository(tmp_path / "served")
    for number in range(3):
        repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"})
    return repository


def test_a_url_is_cloned_once_and_fetched_with_the_key_fetch(served: GitRepository, tmp_path: Path) -> None:
    url, clones = f"file://{served.path}", tmp_path / "clones"
    first = open_repository(url, clones)
    assert first.name == "served"
    assert len(history_of(first.git_dir)) == 3
    served.commit("one more", {"a.py": "x = 9\n"})
    assert open_repository(url, clones).head == first.head
    fetched = open_repository(url, clones, fetch=True)
    assert fetched.git_dir == first.git_dir
    assert len(history_of(fetched.git_dir)) == 4


def test_a_history_that_was_rewritten_is_fetched_too(served: GitRepository, tmp_path: Path) -> None:
    url, clones = f"file://{served.path}", tmp_path / "clones"
    open_repository(url, clones)
    served.git("reset", "--quiet", "--hard", "HEAD~2")
    sha = served.commit("another end", {"a.py": "y = 1\n"})
    assert open_repository(url, clones, fetch=True).head == sha


def test_a_renamed_default_branch_and_a_new_tag_arrive(served: GitRepository, tmp_path: Path) -> None:
    url, clones = f"file://{served.path}", tmp_path / "clones"
    open_repository(url, clones)
    served.git("branch", "--move", "main", "trunk")
    sha = served.commit("after the rename", {"a.py": "z = 1\n"})
    served.git("tag", "v2")
    assert open_repository(url, clones, fetch=True).head == sha
    assert open_repository(url, clones, branch="v2").head == sha


def test_hooks_of_a_template_do_not_run(
    served: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template, trace = tmp_path / "template", tmp_path / "it-ran"
    hook = template / "hooks" / "reference-transaction"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {trace}\n")
    hook.chmod(0o755)
    url = f"file://{served.path}"
    plain = ["git", "clone", "--quiet", f"--template={template}", url, str(tmp_path / "plain")]
    subprocess.run(plain, check=True)
    assert trace.exists()
    trace.unlink()
    configuration = tmp_path / "gitconfig"
    configuration.write_text(f"[init]\n\ttemplateDir = {template}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".gitconfig").write_text(configuration.read_text())
    open_repository(url, tmp_path / "clones")
    assert not trace.exists()


def test_a_url_that_runs_a_command_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    with pytest.raises(UserError, match="unknown protocol"):
        open_repository(f"ext::sh -c touch% {trace}", tmp_path / "clones")
    assert not trace.exists()


def test_a_missing_url_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_repository("http://127.0.0.1:9/x.git", tmp_path / "clones")
    assert not list((tmp_path / "clones").rglob("*.git"))


@pytest.mark.parametrize(
    "url",
    ["http://ada:hunter2@127.0.0.1:9/x.git", "http://hunter2@127.0.0.1:9/x.git", "http://127.0.0.1:9/x?key=hunter2"],
)
def test_a_url_with_a_secret_is_neither_cloned_nor_shown(url: str, tmp_path: Path) -> None:
    """The clone's configuration would keep it."""
    with pytest.raises(UserError) as refused:
        open_repository(url, tmp_path / "clones")
    assert "may not hold a password or token" in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert not list((tmp_path / "clones").rglob("*"))


def test_a_secret_in_a_url_is_not_shown_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `url.….insteadOf` does, which many use to log in."""
    (tmp_path / ".gitconfig").write_text(
        '[url "http://hunter2@127.0.0.1:9/"]\n\tinsteadOf = "http://forge.invalid/"\n'
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError) as refused:
        open_repository("http://forge.invalid/x.git", tmp_path / "clones")
    assert "127.0.0.1:9/x.git" in str(refused.value)
    assert "hunter2" not in str(refused.value)

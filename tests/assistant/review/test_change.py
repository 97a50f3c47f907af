"""A reviewed change is what git shows, without secrets, and reading it runs no program of the repository."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.assistant.review.change import ReviewedChange, read_committed_change, read_staged_change
from blocklm.errors import UserError
from blocklm.git.repository import Repository, open_repository
from blocklm.mining.filters import FilterLimits
from tests.conftest import GitRepository

LIMITS = FilterLimits(max_changed_lines=1000)
KEY = "ghp_" + "k9Wz3TqLr7Yp1VxBn5Md8Hc2Js6Fg4Ae0UiO"


@pytest.fixture
def house(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    made = make_repository("house")
    made.commit("Begin with a door", {"src/door.py": "door = 1\nlock = 2\n", "a b.txt": "words of a text\n"})
    made.git("checkout", "--quiet", "-b", "side")
    made.commit("Open the side, thanks @grace", {"src/side.py": "side = 1\n"})
    made.git("checkout", "--quiet", "main")
    made.commit("Turn the key of the door", {"src/door.py": "door = 1\nlock = 3\n"})
    made.merge("side")
    return made


def opened(house: GitRepository) -> Repository:
    return open_repository(house.path, house.path / "clones")


def of(house: GitRepository, rev: str) -> ReviewedChange:
    return read_committed_change([opened(house)], rev, LIMITS, 3)


def of_index(house: GitRepository) -> ReviewedChange:
    return read_staged_change([opened(house)], LIMITS, 3)


def lines(change: ReviewedChange) -> dict[str, list[str]]:
    return {hunk.path: list(hunk.lines) for hunk in change.hunks}


def test_a_commit_a_merge_a_range_and_the_first_commit(house: GitRepository) -> None:
    turned = of(house, "HEAD^1")
    assert (turned.repo, turned.name) == ("house", house.git("rev-parse", "HEAD^1").strip()[:12])
    assert turned.subject == "Turn the key of the door"
    assert lines(turned) == {"src/door.py": [" door = 1", "-lock = 2", "+lock = 3"]}
    assert turned.commits == (house.git("rev-parse", "HEAD^1").strip(),)

    merge = of(house, "HEAD")
    assert lines(merge) == {"src/side.py": ["+side = 1"]}
    assert set(merge.commits) == set(house.git("rev-parse", "HEAD", "side").split())

    both = of(house, "main~1~1..main")
    assert set(lines(both)) == {"src/door.py", "src/side.py"}
    assert len(both.commits) == 3
    assert "Turn the key of the door" in both.subject and "Open the side, thanks" in both.subject
    assert "grace" not in both.subject
    assert of(house, "main~2..").digest == both.digest != merge.digest

    first = of(house, "main~2")
    assert lines(first) == {"a b.txt": ["+words of a text"], "src/door.py": ["+door = 1", "+lock = 2"]}


@pytest.mark.parametrize("rev", ["main~1..side", "main~1...side"])
def test_a_branch_is_the_changes_since_it_left(house: GitRepository, rev: str) -> None:
    """Changes made on the main line meanwhile do not appear as reverted."""
    change = of(house, rev)
    assert lines(change) == {"src/side.py": ["+side = 1"]}
    assert change.commits == (house.git("rev-parse", "side").strip(),)


def test_only_staged_changes_are_read(house: GitRepository) -> None:
    (house.path / "src/door.py").write_text("door = 1\nlock = 4\n")
    house.git("add", "--all")
    (house.path / "src/door.py").write_text("door = 1\nlock = 5\n")
    (house.path / "new.py").write_text("untracked = 1\n")
    index = (house.path / ".git/index").read_bytes()
    change = of_index(house)
    assert lines(change) == {"src/door.py": [" door = 1", "-lock = 3", "+lock = 4"]}
    assert (change.name, change.subject, change.commits) == ("staged", "", ())
    assert (house.path / ".git/index").read_bytes() == index
    house.git("update-index", "--split-index")
    assert lines(of_index(house)) == lines(change)


def test_a_work_tree_has_an_index_of_its_own(house: GitRepository, tmp_path: Path) -> None:
    house.git("worktree", "add", "--quiet", str(tmp_path / "other"), "side")
    other = GitRepository(tmp_path / "other", commits=9)
    (other.path / "src/side.py").write_text("side = 2\n")
    other.git("add", "--all")
    assert lines(of_index(other)) == {"src/side.py": ["-side = 1", "+side = 2"]}
    with pytest.raises(UserError, match="no change of text is staged"):
        of_index(house)


def test_of_several_repositories_the_current_folders_is_reviewed(
    house: GitRepository, make_repository: Callable[[str], GitRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    barn = make_repository("barn")
    sha = barn.commit("Begin with a barn", {"src/barn.py": "barn = 1\n"})
    for repository in (house, barn):
        (repository.path / "src" / "more.py").write_text(f"{repository.path.name} = 2\n")
        repository.git("add", "--all")
    both = [opened(house), opened(barn)]
    assert read_staged_change(both, LIMITS, 3).repo == "house"
    monkeypatch.chdir(barn.path / "src")
    assert read_staged_change(both, LIMITS, 3).repo == "barn"
    assert read_committed_change(both, sha, LIMITS, 3).repo == "barn"


def test_no_secret_and_no_generated_file_is_shown(house: GitRepository) -> None:
    house.commit(f"Add a token {KEY}", {"src/door.py": f'token = "{KEY}"\n', "uv.lock": "version = 1\n"})
    change = of(house, "HEAD")
    assert list(lines(change)) == ["src/door.py"]
    assert '+token = "<KEY>"' in lines(change)["src/door.py"]
    assert KEY not in repr(change)


@pytest.mark.parametrize(
    ("rev", "error"),
    [
        ("nowhere", "`nowhere` names no commit in"),
        ("--output=x", "`--output=x` names no commit in"),
        ("HEAD..nowhere", "names no two commits with a common ancestor in"),
        ("nowhere..", "names no two commits with a common ancestor in"),
        ("HEAD..HEAD", "changes no text"),
    ],
)
def test_a_name_without_a_change_is_refused(house: GitRepository, rev: str, error: str) -> None:
    with pytest.raises(UserError, match=error):
        of(house, rev)


def test_a_picture_and_an_empty_commit_change_no_text(house: GitRepository) -> None:
    house.commit("Hang a picture", {"a.png": b"\x89PNG\0\1"})
    with pytest.raises(UserError, match="changes no text"):
        of(house, "HEAD")


@pytest.mark.parametrize("how", ["--bare", "--no-checkout"])
def test_without_an_index_nothing_is_staged(house: GitRepository, tmp_path: Path, how: str) -> None:
    """Compared with a missing index, every file would look deleted."""
    house.git("clone", "--quiet", how, str(house.path), str(tmp_path / "clone"))
    with pytest.raises(UserError, match="has no index"):
        read_staged_change([open_repository(tmp_path / "clone", tmp_path)], LIMITS, 3)


def test_the_first_commit_of_a_shallow_clone_cannot_be_reviewed(house: GitRepository, tmp_path: Path) -> None:
    house.git("clone", "--quiet", "--depth", "1", f"file://{house.path}", str(tmp_path / "shallow"))
    with pytest.raises(UserError, match="is where this shallow clone of"):
        read_committed_change([open_repository(tmp_path / "shallow", tmp_path)], "HEAD", LIMITS, 3)


def test_bytes_that_are_no_text_are_accepted(house: GitRepository) -> None:
    house.commit("Write Latin in the house", {"src/latin.py": b"# caf\xe9 of the house\nx = 1\n"})
    assert lines(of(house, "HEAD"))["src/latin.py"] == ["+# caf\ufffd of the house", "+x = 1"]


CHANNELS = {
    "external diff": ({"diff.external": "%s"}, "git diff --cached"),
    "text conversion": ({"diff.evil.textconv": "%s"}, "git diff --cached"),
    "diff driver": ({"diff.evil.command": "%s"}, "git diff --cached"),
    "clean filter": ({"filter.evil.clean": "%s"}, "touch src/door.py; git diff"),
    "file system monitor": ({"core.fsmonitor": "%s"}, "git diff --cached"),
    "index hook": ({"core.hooksPath": "%h"}, "git update-index --force-write-index; git add src/side.py"),
}


@pytest.mark.parametrize(("config", "command"), CHANNELS.values(), ids=CHANNELS)
def test_reviewing_runs_no_program_of_the_repository(
    house: GitRepository, tmp_path: Path, config: dict[str, str], command: str
) -> None:
    trace, hooks = tmp_path / "it-ran", tmp_path / "hooks"
    hooks.mkdir()
    payload = hooks / "post-index-change"
    payload.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(trace))}\n")
    payload.chmod(0o755)
    house.commit("Mind the attributes", {".gitattributes": "*.py diff=evil filter=evil\n"})
    (house.path / "src/door.py").write_text("door = 9\n")
    house.git("add", "--all")
    for key, value in config.items():
        house.git("config", key, value.replace("%s", str(payload)).replace("%h", str(hooks)))
    subprocess.run(command, shell=True, cwd=house.path, capture_output=True, check=False)
    assert trace.exists(), "the payload must fire under plain git, or this test shows nothing"
    trace.unlink()
    assert "+door = 9" in lines(of_index(house))["src/door.py"]
    assert of(house, "HEAD~1").hunks
    assert not trace.exists()

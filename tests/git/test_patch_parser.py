"""Parsed patches equal PyDriller's, file by file, on a repository of every oddity known to us."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydriller
import pytest

from blocklm.benchmarks.mining import exactness_table
from blocklm.git.commits import Caps, Commit, read_commits
from blocklm.git.isolation import isolated_repository
from blocklm.git.patch_parser import parse_patch
from blocklm.git.patch_stream import PatchStream
from blocklm.git.repository import open_repository
from blocklm.git.rev_list import list_commits
from tests.support.torture import Torture, torture_repository, write

UNLIMITED = Caps(1 << 30, 1 << 30)


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return torture_repository(tmp_path_factory.mktemp("torture") / "torture.git")


def read(path: Path, **options: Any) -> Iterator[Commit]:
    repository = open_repository(path, path.parent / "clones")
    return read_commits(repository, list_commits(repository), **options)


def test_every_commit_equals_pydrillers(torture: Path) -> None:
    theirs = {commit.hash: commit for commit in pydriller.Repository(str(torture)).traverse_commits()}
    ours = {commit.sha: commit for commit in read(torture, caps=UNLIMITED)}
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    (line,) = exactness_table([torture])
    assert line.endswith(", 0 differ")
    for sha, commit in ours.items():
        assert commit.error is None
        assert commit.parents == tuple(theirs[sha].parents)
        assert commit.author_time == theirs[sha].author_date
        assert commit.commit_time == theirs[sha].committer_date


def test_the_objects_hold_pydrillers_own_fields(torture: Path) -> None:
    """The objects can be used as PyDriller's own."""
    repository = open_repository(torture, torture.parent / "clones")
    shas = list_commits(repository).shas
    fields = (
        "a_rawpath",
        "b_rawpath",
        "a_mode",
        "b_mode",
        "a_blob",
        "b_blob",
        "diff",
        "new_file",
        "deleted_file",
        "raw_rename_from",
        "raw_rename_to",
    )
    with (
        isolated_repository(repository.git_dir, frozenset()) as environment,
        PatchStream(environment, shas, 3, 1) as stream,
    ):
        source = pydriller.Git(environment["GIT_DIR"])
        plain = pydriller.Git(str(torture))
        for sha in shas:
            stream.commit()
            ours = [item._c_diff for piece in stream.patch() for item in parse_patch(source.repo, piece)]
            commit = plain.get_commit(sha)
            theirs = [] if commit.merge else [item._c_diff for item in commit.modified_files]
            for field in fields:
                assert [getattr(d, field) for d in ours] == [getattr(d, field) for d in theirs], (commit.msg, field)


def test_messages_equal_pydrillers_unless_they_have_their_own_encoding(torture: Path) -> None:
    """GitPython looks for the header `encoding` in ten bytes of nine, so PyDriller reads every message as UTF-8."""
    theirs = {commit.hash: commit.msg for commit in pydriller.Repository(str(torture)).traverse_commits()}
    differing = [
        (commit.message, theirs[commit.sha]) for commit in read(torture) if commit.message != theirs[commit.sha]
    ]
    assert differing == [("café", "caf\ufffd")]


def test_a_mode_change_that_pydriller_misreads_is_read_right(tmp_path: Path) -> None:
    """GitPython's pattern reads `a b/a` as a pair of paths.

    Both halves of git's line are equal, so it is split in the middle.
    """
    made = Torture()
    made.commit(b"one\n", [write(b"a b/a", b"x\n")])
    made.commit(b"two\n", [write(b"a b/a", b"x\n", b"100755")])
    path = made.build(tmp_path / "odd.git")
    theirs = list(pydriller.Repository(str(path)).traverse_commits())[1].modified_files[0]
    assert (theirs.old_path, theirs.new_path) == ("a", "a b/a b/a")
    (change,) = list(read(path))[1].files
    assert (change.old_path, change.path, change.change_type) == ("a b/a", "a b/a", "type")


@pytest.mark.parametrize("context_lines", [0, 1, 10])
def test_context_lines_can_be_chosen(torture: Path, context_lines: int) -> None:
    ours = {commit.message: commit for commit in read(torture, context_lines=context_lines)}
    change = next(file for file in ours["edit all"].files if file.path == "plain.txt")
    before = min(3, context_lines)
    assert change.diff.count("\n ") == before + context_lines


def test_text_beyond_the_caps_is_counted_and_not_kept(torture: Path) -> None:
    ours = {commit.message: commit for commit in read(torture, caps=Caps(file_bytes=2000, commit_bytes=5000))}
    (wide,) = ours["5 MB lines edited"].files
    assert (wide.diff, wide.capped, wide.added, wide.deleted) == ("", True, 1, 1)
    many = ours["root"].files
    assert sum(len(file.diff.encode()) for file in many) <= 5000
    assert [file.capped for file in many].count(False) > 5
    assert all(file.added >= 41 for file in many)


def test_names_that_are_not_utf8_cost_no_commit(tmp_path: Path) -> None:
    """Plain PyDriller fails on each commit as soon as the index of a work tree has such a name."""
    made = Torture()
    made.commit(b"one\n", [write(b"caf\xe9.txt", b"x\n")])
    made.commit(b"two\n", [write(b"caf\xe9.txt", b"y\n")])
    first, second = read(made.build(tmp_path / "names.git"))
    assert [file.path for file in first.files + second.files] == ["caf\ufffd.txt"] * 2

"""Patches arrive complete and in order for every commit, whatever the blocks, pieces and processes."""

import re
import subprocess
from pathlib import Path

import psutil
import pytest

from blocklm.git import patch_stream, process
from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.patch_stream import COMMITS_PER_BLOCK, PatchStream
from blocklm.git.process import Unreadable
from blocklm.git.repository import open_repository
from blocklm.git.rev_list import list_commits
from tests.support.torture import Torture, write

PATCH = ("diff-tree", "-r", "--root", "-M", "-p", "--full-index", "--no-commit-id")


@pytest.fixture(scope="module")
def long_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Torture()
    for number in range(3 * COMMITS_PER_BLOCK + 1):
        made.commit(b"commit %d\n" % number, [write(b"f%d" % (number % 7), b"%d\n" % number * (number % 50))])
    return made.build(tmp_path_factory.mktemp("stream") / "long.git")


def read(path: Path, count: int, workers: int) -> list[bytes | None]:
    """Read the patch of each of the first `count` commits; None for one that cannot be read."""
    repository = open_repository(path, path.parent / "clones")
    shas = list_commits(repository).shas[:count]
    patches: list[bytes | None] = []
    with (
        isolated_repository(repository.git_dir, frozenset()) as environment,
        PatchStream(environment, shas, 3, workers) as stream,
    ):
        for sha in shas:
            assert f"commit {shas.index(sha)}\n".encode() in stream.commit()
            try:
                patches.append(b"".join(stream.patch()))
            except Unreadable:
                patches.append(None)
    return patches


def expected(path: Path) -> list[bytes]:
    """Read each patch with a process of its own, which is slow and surely right."""
    repository = open_repository(path, path.parent / "clones")
    with isolated_repository(repository.git_dir, frozenset()) as environment:
        shas = list_commits(repository).shas
        return [run_git(environment, *PATCH, sha).stdout.encode() for sha in shas]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 96, 97])
def test_no_length_of_history_blocks_or_loses_a_commit(long_history: Path, count: int, workers: int) -> None:
    assert read(long_history, count, workers) == expected(long_history)[:count]


def test_a_long_patch_comes_in_pieces_that_end_between_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads have odd sizes, so that marks and headers are split between them."""
    monkeypatch.setattr(patch_stream, "PIECE_BYTES", 4000)
    monkeypatch.setattr(process, "READ_BYTES", 997)
    made = Torture()
    made.commit(b"commit 0\n", [write(b"f%03d" % number, b"line\n" * number) for number in range(100)])
    made.commit(b"commit 1\n", [write(b"g", b".\n.\n")])
    path = made.build(tmp_path / "pieces.git")
    repository = open_repository(path, tmp_path / "clones")
    shas = list_commits(repository).shas
    with (
        isolated_repository(repository.git_dir, frozenset()) as environment,
        PatchStream(environment, shas, 3, 1) as patches,
    ):
        patches.commit()
        pieces = list(patches.patch())
        assert all(piece.startswith(b"diff --git ") for piece in pieces)
        assert len(pieces) > 5
        assert [b"".join(pieces), b"".join(patches.patch())] == expected(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_dies_loses_one_commit_and_is_replaced(tmp_path: Path, workers: int) -> None:
    made = Torture()
    for number in range(70):
        made.commit(b"commit %d\n" % number, [write(b"f%d" % number, b"%d\n" % number)])
    path = made.build(tmp_path / "torn.git")
    intact = expected(path)
    subprocess.run(["git", "-C", str(path), "unpack-objects", "-q"], input=_pack(path), check=True)
    for lost in (3, 4, 40, 69):
        blob = re.search(rb"index 0{40}\.\.(\w{40})", intact[lost])
        assert blob is not None
        name = blob[1].decode()
        (path / "objects" / name[:2] / name[2:]).unlink()
    patches = read(path, 70, workers)
    assert [number for number, patch in enumerate(patches) if patch is None] == [3, 4, 40, 69]
    assert all(patch == intact[number] for number, patch in enumerate(patches) if patch is not None)


def _pack(path: Path) -> bytes:
    """Take the repository's only pack away and return it, so that its objects can be made loose."""
    (pack,) = (path / "objects" / "pack").glob("*.pack")
    content = pack.read_bytes()
    for file in pack.parent.glob(f"{pack.stem}.*"):
        file.unlink()
    return content


def test_a_reader_that_stops_early_leaves_no_process(long_history: Path) -> None:
    repository = open_repository(long_history, long_history.parent / "clones")
    before = psutil.Process().children()
    with (
        isolated_repository(repository.git_dir, frozenset()) as environment,
        PatchStream(environment, list_commits(repository).shas, 3, 2) as patches,
    ):
        patches.commit()
        assert len(psutil.Process().children()) == len(before) + 3
    assert psutil.Process().children() == before
    assert not Path(environment["GIT_DIR"]).exists()


def test_a_killed_process_loses_no_commit(long_history: Path) -> None:
    """A signal, for example from the kernel when memory is short, is no fault of the commit: it is read once more."""
    repository = open_repository(long_history, long_history.parent / "clones")
    shas = list_commits(repository).shas
    patches = []
    with (
        isolated_repository(repository.git_dir, frozenset()) as environment,
        PatchStream(environment, shas, 3, 2) as stream,
    ):
        for number in range(len(shas)):
            if number in (0, 20, 33, 96):
                for process in psutil.Process().children():
                    if process.status() != psutil.STATUS_ZOMBIE and "diff-tree" in process.cmdline():
                        process.kill()
            stream.commit()
            patches.append(b"".join(stream.patch()))
    assert patches == expected(long_history)

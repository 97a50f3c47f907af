"""Reads the files of a repository at a commit, from git's objects alone."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blocklm.git.isolation import run_git, run_git_bytes

BLOBS_AT_ONCE = 500


class File(NamedTuple):
    """A regular file of a tree.

    Attributes:
        path: path from the root of the tree.
        blob: id of its content.
        size: bytes of its content.
    """

    path: str
    blob: str
    size: int


def first_parent(environment: dict[str, str], commit: str) -> str | None:
    """The first parent of a commit; None if the repository lacks the commit or its parent."""
    return run_git(environment, "rev-parse", "--verify", "--quiet", f"{commit}^1").stdout.strip() or None


def files_of(environment: dict[str, str], revision: str) -> Iterator[File]:
    """Yield the regular files of a commit's tree; none if the repository lacks the commit."""
    for entry in run_git(environment, "ls-tree", "-r", "-z", "-l", "--full-tree", revision).stdout.split("\0"):
        fields, _, path = entry.partition("\t")
        mode, _, blob, size = (fields.split() or ["", "", "", ""])[:4]
        if mode.startswith("100") and size.isdecimal():  # the size of a missing object is BAD
            yield File(path, blob, int(size))


def read_contents(environment: dict[str, str], blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield id and bytes of each blob that the repository has undamaged."""
    start = 0
    while start < len(blobs):
        asked = blobs[start : start + BLOBS_AT_ONCE]
        ids = "".join(f"{blob}\n" for blob in asked).encode()
        answered = 0
        for blob, content in _answers(run_git_bytes(environment, "cat-file", "--batch", given=ids)):
            answered += 1
            if content is not None:
                yield blob, content
        # Git ends at the first damaged blob: another process is asked for those after it.
        start += min(answered + 1, len(asked))


def _answers(output: bytes) -> Iterator[tuple[str, bytes | None]]:
    """Yield id and bytes of each complete answer of `git cat-file --batch`; None in place of a missing blob's bytes."""
    position = 0
    while (end := output.find(b"\n", position)) >= 0:
        blob, *rest = output[position:end].decode().split()
        position = end + 1
        if rest[0] != "blob":
            yield blob, None
            continue
        size = int(rest[1])
        if position + size >= len(output):
            return
        yield blob, output[position : position + size]
        position += size + 1


def unreadable_blobs(environment: dict[str, str], revision: str) -> list[str]:
    """Return the ids of a tree's blobs that are missing or damaged, one for each of their files.

    All files are read, which takes as long as that.
    """
    blobs = [blob for kind, blob, _ in _entries(environment, revision) if kind == "blob"]
    readable = {blob for blob, _ in read_contents(environment, list(dict.fromkeys(blobs)))}
    return [blob for blob in blobs if blob not in readable]


def tree_without(environment: dict[str, str], revision: str, blobs: Collection[str]) -> tuple[dict[str, str], str]:
    """Write a tree again without the files of some blobs, into the isolated repository alone.

    Returns:
        The environment for git processes that read it, and its id; the id is empty if the tree cannot be written.
    """
    folder = Path(environment["GIT_DIR"])
    alternates = folder / "objects" / "info" / "alternates"
    alternates.parent.mkdir()
    alternates.write_text(f"{environment['GIT_OBJECT_DIRECTORY']}\n", encoding="utf-8", errors="surrogateescape")
    own = environment | {
        "GIT_OBJECT_DIRECTORY": str(folder / "objects"),
        "GIT_INDEX_FILE": str(folder / "index"),
    }
    kept = "".join(entry for _, blob, entry in _entries(environment, revision) if blob not in blobs)
    run_git(own, "update-index", "-z", "--index-info", given=kept)
    return own, run_git(own, "write-tree", "--missing-ok").stdout.strip()


def _entries(environment: dict[str, str], revision: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind and id of each entry of a tree, and its line, which ends with a zero byte."""
    for entry in run_git(environment, "ls-tree", "-r", "-z", "--full-tree", revision).stdout.split("\0")[:-1]:
        _, kind, blob = entry.partition("\t")[0].split()
        yield kind, blob, f"{entry}\0"

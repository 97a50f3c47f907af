"""Reads the files of a repository at a commit, from git's objects alone."""

from collections.abc import Iterator, Sequence
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
    """Yield id and bytes of each blob that the repository has."""
    for start in range(0, len(blobs), BLOBS_AT_ONCE):
        ids = "".join(f"{blob}\n" for blob in blobs[start : start + BLOBS_AT_ONCE]).encode()
        answer, position = run_git_bytes(environment, "cat-file", "--batch", given=ids), 0
        while position < len(answer):
            end = answer.index(b"\n", position)
            blob, *rest = answer[position:end].decode().split()
            position = end + 1
            if rest[0] == "blob":
                size = int(rest[1])
                yield blob, answer[position : position + size]
                position += size + 1

"""The files of a repository as they stood at some commit, read from git's objects alone."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from blocklm.git.isolation import run_git, run_git_bytes

BLOBS_AT_ONCE = 500


class File(NamedTuple):
    """A regular file of a tree: its path, the name of its content, and how many bytes that has."""

    path: str
    blob: str
    size: int


def first_parent(environment: dict[str, str], commit: str) -> str | None:
    """The first parent of a commit, None if the commit or its parent is not here."""
    return run_git(environment, "rev-parse", "--verify", "--quiet", f"{commit}^1").stdout.strip() or None


def files_of(environment: dict[str, str], revision: str) -> Iterator[File]:
    """The regular files of a commit's tree; none for a commit that is not here."""
    for entry in run_git(environment, "ls-tree", "-r", "-z", "-l", "--full-tree", revision).stdout.split("\0"):
        about, _, path = entry.partition("\t")
        mode, _, blob, size = (about.split() or ["", "", "", ""])[:4]
        if mode.startswith("100") and size.isdecimal():  # BAD: missing
            yield File(path, blob, int(size))


def read_contents(environment: dict[str, str], blobs: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each content that is here."""
    for start in range(0, len(blobs), BLOBS_AT_ONCE):
        asked = "".join(f"{blob}\n" for blob in blobs[start : start + BLOBS_AT_ONCE]).encode()
        answer, at = run_git_bytes(environment, "cat-file", "--batch", given=asked), 0
        while at < len(answer):
            end = answer.index(b"\n", at)
            blob, *rest = answer[at:end].decode().split()
            at = end + 1
            if rest[0] == "blob":
                size = int(rest[1])
                yield blob, answer[at : at + size]
                at += size + 1

"""Reads git history as frozen values, one commit at a time, in landing order.

Commits are built from PyDriller's objects, which read from long-lived git processes. These never run in the mined
repository itself, but in an isolated one that borrows its objects.
"""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import git
import pydriller
from git.db import GitCmdObjectDB
from gitdb.base import OStream

from blocklm.errors import UserError
from blocklm.git.authors import is_bot, pseudonym
from blocklm.git.isolation import isolated_repository
from blocklm.git.patch_parser import PatchFile, parse_patch
from blocklm.git.patch_stream import PatchStream, tree_patch
from blocklm.git.process import Unreadable
from blocklm.git.repository import Repository
from blocklm.git.rev_list import History
from blocklm.git.trees import tree_without, unreadable_blobs

CHANGE_TYPES = {"ADD": "add", "MODIFY": "modify", "DELETE": "delete", "RENAME": "rename", "COPY": "copy"}
ENCODING = re.compile(rb"^encoding (.+)$", re.MULTILINE)
MALFORMED = "malformed commit"
DIFF_PROCESSES = min(4, len(os.sched_getaffinity(0)))
LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Caps:
    """Sizes above which the text of a change is not kept, only its lines are counted.

    Attributes:
        file_bytes: most bytes of hunks of one file.
        commit_bytes: most bytes of hunks of all files of one commit.
    """

    file_bytes: int = 4 << 20
    commit_bytes: int = 32 << 20


@dataclass(frozen=True, slots=True)
class FileChange:
    """The change of one file by one commit.

    Attributes:
        diff: unified hunks without the file header.
        lossy: whether the file is not UTF-8, so that PyDriller left out the bytes that it could not decode.
        capped: whether the hunks were too large to keep; `diff` is then empty.
    """

    path: str
    old_path: str
    change_type: str
    mode: int
    before_blob: str | None
    after_blob: str | None
    diff: str
    added: int
    deleted: int
    lossy: bool = False
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit.

    Attributes:
        files: changed files; none for a merge or an unreadable commit.
        error: why the files of an unreadable commit are missing; None for all others.
        author: pseudonym.
        author_name: name to look for in texts; never stored.
    """

    repo: str
    sha: str
    parents: tuple[str, ...]
    seq: int
    author: str
    author_time: datetime
    commit_time: datetime
    message: str
    files: tuple[FileChange, ...]
    error: str | None = None
    author_name: str = ""
    by_bot: bool = False


def read_commits(
    repository: Repository, history: History, start: int = 0, context_lines: int = 3, caps: Caps = Caps()
) -> Iterator[Commit]:
    """Yield the commits of `history` from the index `start` on, in order.

    Memory holds one commit and git's output for the next ones. A commit whose objects are missing or corrupt is yielded
    with `error` set and without files; it never ends the traversal.

    Raises:
        UserError: a commit was removed while the history was read.
    """
    shas = history.shas[start:]
    if not shas:
        return
    salt = bytes.fromhex(history.shas[0])
    with (
        isolated_repository(repository.git_dir, history.boundary) as environment,
        PatchStream(environment, shas, context_lines, DIFF_PROCESSES) as stream,
    ):
        source = pydriller.Git(environment["GIT_DIR"])
        texts = source.repo.odb = _CommitTexts(environment["GIT_DIR"], source.repo.git)
        latest = datetime.fromtimestamp(0, UTC)
        for seq, sha in enumerate(shas, start):
            try:
                text = stream.commit()
            except Unreadable as failure:
                raise UserError(f"{repository.path} changed while it was read: {failure}", "run it again") from None
            texts.put(sha, text)
            commit = source.get_commit_from_gitpython(git.Commit(source.repo, bytes.fromhex(sha)))
            error, files = _files(source.repo, stream.patch(), caps)
            try:
                if sha in history.boundary:  # its patch would add all files
                    parents = " ".join(commit.parents)
                    error, files = f"shallow boundary: not in this clone are its parents {parents}", ()
                result = replace(_metadata(commit, text, repository.name, seq, salt), files=files, error=error)
                latest = result.commit_time
            except ValueError as failure:  # an object that git itself never writes, such as one without a time
                why = f"{MALFORMED}: {' '.join(str(failure).split())[:200]}"
                result = Commit(repository.name, sha, (), seq, "", latest, latest, "", (), why)
            yield result


def read_tree(repository: Repository, sha: str, caps: Caps = Caps()) -> tuple[Commit, list[str]]:
    """All files at a commit, as one change that adds them; it has neither author nor message.

    Returns:
        The change without the files that are missing or damaged, and the ids of these files' blobs, one for each file.

    Raises:
        UserError: the commit or one of its trees is missing or corrupt.
    """
    unreadable = list[str]()
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        repo = pydriller.Git(environment["GIT_DIR"]).repo
        error, files = _files(repo, tree_patch(environment, sha), caps)
        if error is not None and (unreadable := unreadable_blobs(environment, sha)):
            readable, tree = tree_without(environment, sha, frozenset(unreadable))
            error, files = _files(repo, tree_patch(readable, tree), caps)
    if error is not None:
        raise UserError(
            f"the files at {sha[:12]} of {repository.path} cannot be read: {error}",
            "run `git fsck` to see what is damaged",
        )
    return Commit(repository.name, sha, (), 0, "", _time(0), _time(0), "", files), unreadable


class _CommitTexts(GitCmdObjectDB):
    """GitPython's object database that holds the next commit's text, so that no process is started to read it."""

    def put(self, sha: str, text: bytes) -> None:
        """Hold the raw text of a commit until it is parsed."""
        self._sha, self._text = bytes.fromhex(sha), text

    def stream(self, binsha: bytes) -> OStream:
        """The object's text: the one held by `put`, or else read by git."""
        if binsha == self._sha:
            return OStream(binsha, b"commit", len(self._text), io.BytesIO(self._text))
        return super().stream(binsha)


def _metadata(commit: pydriller.Commit, text: bytes, repo: str, seq: int, salt: bytes) -> Commit:
    """The commit without its files.

    Raises:
        ValueError: its raw text is malformed.
    """
    name, mail = str(commit.author.name or ""), str(commit.author.email or "")
    return Commit(
        repo=repo,
        sha=commit.hash,
        parents=tuple(commit.parents),
        seq=seq,
        author=pseudonym(name, mail, salt),
        author_time=_time(commit._c_object.authored_date),
        commit_time=_time(commit._c_object.committed_date),
        message=_message(commit, text),
        files=(),
        author_name=name,
        by_bot=is_bot(name, mail),
    )


def _message(commit: pydriller.Commit, text: bytes) -> str:
    """The message in the encoding that the commit names; GitPython overlooks that header and reads UTF-8 always."""
    header, _, body = text.partition(b"\n\n")
    encoding = ENCODING.search(header)
    if encoding is None:
        return str(commit.msg)
    try:
        message = body.decode(encoding[1].decode("ascii", "replace"), "replace").strip()
    except (LookupError, ValueError):  # an unknown encoding, or a codec that does not decode text
        message = body.decode("utf-8", "replace").strip()
    return message.encode("utf-8", "replace").decode()  # UTF-7 and others can hold lone surrogates


def _time(seconds: int) -> datetime:
    """The time in UTC, bounded to years that datetime knows; PyDriller's own dates fail on others."""
    return datetime.fromtimestamp(min(max(0, seconds), LATEST), UTC)


def _files(repo: git.Repo, patch: Iterator[bytes], caps: Caps) -> tuple[str | None, tuple[FileChange, ...]]:
    """The reason why a patch cannot be read, or None, and its changes; lines beyond the caps are only counted."""
    files: list[FileChange] = []
    bytes_left = caps.commit_bytes
    try:
        for piece in patch:
            for item in parse_patch(repo, piece):
                change = _change(item, keep=len(item.hunks) <= min(bytes_left, caps.file_bytes))
                bytes_left -= 0 if change.capped else len(item.hunks)
                files.append(change)
    except Unreadable as failure:
        return str(failure), ()
    return None, tuple(files)


def _change(item: PatchFile, keep: bool) -> FileChange:
    before, after = item.blob_ids
    try:
        diff, lossy = item.hunks.decode() if keep else "", False
    except UnicodeDecodeError:
        diff, lossy = item.diff, True
    return FileChange(
        path=item.new_path or item.old_path or "",
        old_path=item.old_path or item.new_path or "",
        change_type=CHANGE_TYPES.get(item.change_type.name, "type"),
        mode=item.mode,
        before_blob=before,
        after_blob=after,
        diff=diff,
        added=item.added_lines,
        deleted=item.deleted_lines,
        lossy=lossy,
        capped=not keep,
    )

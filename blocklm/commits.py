"""Git history as frozen values, one commit at a time, in landing order.

History is read through PyDriller, never in the mined repository itself but in a sterile one that borrows its objects.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import blake2s
from pathlib import Path

import pydriller
from git.exc import GitCommandError

from blocklm.errors import UserError
from blocklm.sterile import STERILE_ENVIRONMENT, git_output, run_git, sterile_repository

CHANGE_TYPES = {"ADD": "add", "MODIFY": "modify", "DELETE": "delete", "RENAME": "rename", "COPY": "copy"}
BROKEN_PARENTS = re.compile(r"Failed to traverse parents of commit ([0-9a-f]{40})")
READ_ERRORS = (GitCommandError, ValueError, OSError)


@dataclass(frozen=True, slots=True)
class Repository:
    """A readable git repository at one moment; `head` is the commit mined from.

    `boundary` holds the commits whose parents are not there: of a shallow clone, or above a missing commit object.
    """

    path: Path
    name: str
    git_dir: Path
    head: str
    branches: int
    boundary: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FileChange:
    """What one commit did to one file; `diff` holds the unified hunks without the file header.

    `lossy` says that the file is not UTF-8 and PyDriller left out the bytes it could not decode.
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


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; merges carry no files, and `error` says why the files of an unreadable commit are missing."""

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


def open_repository(path: str | Path) -> Repository:
    """Find the git directory and the head commit, without running anything the repository names.

    Raises:
        UserError: no such path, no repository there, no commit yet, or an object format PyDriller cannot read.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise UserError(f"`repo` {path} does not exist", "give the path of a cloned git repository")
    found = git_output(root, "rev-parse", "--absolute-git-dir", "--show-object-format")
    if found is None:
        raise UserError(
            f"`repo` {path} is not a git repository",
            "a downloaded zip holds no history: use `git clone` and give the clone's top folder",
        )
    git_dir, object_format = found.splitlines()
    if object_format != "sha1":
        raise UserError(f"`repo` {path} stores {object_format} objects", "only SHA-1 repositories can be read yet")
    head = git_output(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head is None:
        raise UserError(f"`repo` {path} has no commits on HEAD", "check out the branch to learn from, or commit first")
    branches = git_output(root, "for-each-ref", "--format=x", "refs/heads", "refs/remotes") or ""
    name, count = _name(Path(git_dir)), len(branches.split())
    return _with_boundary(Repository(root.resolve(), name, Path(git_dir), head.strip(), count))


def count_commits(repository: Repository) -> int:
    """Number of commits reachable from the head."""
    with sterile_repository(repository.git_dir, repository.head, repository.boundary) as git_dir:
        return int(git_output(git_dir, "rev-list", "--count", repository.head) or 0)


def read_commits(repository: Repository) -> Iterator[Commit]:
    """Yield every commit reachable from the head, oldest first, branch commits just before the merge that landed them.

    Memory holds one commit at a time. A commit whose objects are missing or corrupt is yielded with `error` set and
    without files; it never ends the traversal.
    """
    with sterile_repository(repository.git_dir, repository.head, repository.boundary) as git_dir:
        git = pydriller.Git(str(git_dir))
        git.repo.git.update_environment(
            **STERILE_ENVIRONMENT,
            GIT_DIR=str(git_dir),
            GIT_OBJECT_DIRECTORY=str(git_dir / "objects"),
            GIT_CONFIG_COUNT="0",
        )
        try:
            listing = git.get_list_commits(repository.head, topo_order=True, reverse=True)
            salt = b""
            for seq, commit in enumerate(listing):
                salt = salt or bytes.fromhex(commit.hash)
                yield _read(repository, commit, seq, salt)
        finally:
            git.clear()


def _read(repository: Repository, commit: pydriller.Commit, seq: int, salt: bytes) -> Commit:
    error: str | None = None
    files: tuple[FileChange, ...] = ()
    if commit.hash in repository.boundary:
        error = "shallow boundary: its parent is not in this clone"
    elif not commit.merge:
        try:
            files = tuple(_change(item) for item in commit.modified_files)
        except READ_ERRORS as failure:
            error = " ".join(str(failure).split())[-300:]
    identity = f"{commit.author.name} <{commit.author.email}>".encode("utf-8", "surrogateescape")
    return Commit(
        repo=repository.name,
        sha=commit.hash,
        parents=tuple(commit.parents),
        seq=seq,
        author=blake2s(identity, key=salt, digest_size=6).hexdigest(),
        author_time=commit.author_date.astimezone(UTC),
        commit_time=commit.committer_date.astimezone(UTC),
        message=commit.msg,
        files=files,
        error=error,
    )


def _change(item: pydriller.ModifiedFile) -> FileChange:
    diff = item._c_diff  # PyDriller has no public way to a file's blob ids and mode
    return FileChange(
        path=item.new_path or item.old_path,
        old_path=item.old_path or item.new_path,
        change_type=CHANGE_TYPES.get(item.change_type.name, "type"),
        mode=diff.b_mode or diff.a_mode or 0,
        before_blob=diff.a_blob.hexsha if diff.a_blob else None,
        after_blob=diff.b_blob.hexsha if diff.b_blob else None,
        diff=item.diff,
        added=item.added_lines,
        deleted=item.deleted_lines,
        lossy=item.diff.encode("utf-8", "surrogatepass") != bytes(diff.diff),
    )


def _with_boundary(repository: Repository) -> Repository:
    """Find where the history ends early; a missing commit object ends it just as a shallow clone does.

    Raises:
        UserError: git cannot walk the history for another reason.
    """
    repository = replace(repository, boundary=_shallow(repository))
    while True:
        with sterile_repository(repository.git_dir, repository.head, repository.boundary) as git_dir:
            done = run_git(git_dir, "rev-list", "--count", repository.head)
        if done.returncode == 0:
            return repository
        broken = BROKEN_PARENTS.search(done.stderr)
        if broken is None or broken[1] in repository.boundary:
            said = " ".join(done.stderr.split())[-200:]
            raise UserError(
                f"the history of {repository.path} cannot be read: {said}", "`git fsck` says what is damaged"
            )
        repository = replace(repository, boundary=repository.boundary | {broken[1]})


def _shallow(repository: Repository) -> frozenset[str]:
    path = git_output(repository.git_dir, "rev-parse", "--path-format=absolute", "--git-path", "shallow") or ""
    boundary = Path(path.strip())
    return frozenset(boundary.read_text().split()) if boundary.is_file() else frozenset()


def _name(git_dir: Path) -> str:
    """A short name for folders and prompts: the folder that holds `.git`, or the bare repository's own."""
    folder = git_dir.parent if git_dir.name == ".git" else git_dir
    return re.sub(r"[^\w.-]", "-", folder.name.removesuffix(".git")).lstrip(".") or "repository"

"""Git history as frozen values, one commit at a time, in landing order.

History is read through PyDriller, but never in the mined repository itself: its config may name programs (a file system
monitor, a diff driver, a credential helper) that git would run. A sterile bare repository of our own borrows its
objects, so that config, hooks, attributes, index and work tree are never read.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2s
from pathlib import Path

import pydriller
from git.exc import GitCommandError

from blocklm.errors import UserError

CHANGE_TYPES = {"ADD": "add", "MODIFY": "modify", "DELETE": "delete", "RENAME": "rename", "COPY": "copy"}
READ_ERRORS = (GitCommandError, ValueError, OSError)

# Nothing outside the sterile repository may change what is read or run: no user or system config, no network, no
# prompts, no replaced objects.
STERILE_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_DIFF_OPTS": "",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
STERILE_CONFIG = """[core]
	repositoryformatversion = 0
	bare = true
	quotePath = true
	bigFileThreshold = 10m
[diff]
	renameLimit = 1000
"""


@dataclass(frozen=True, slots=True)
class Repository:
    """A readable git repository at one moment; `head` is the commit mined from."""

    path: Path
    name: str
    git_dir: Path
    head: str
    branches: int


@dataclass(frozen=True, slots=True)
class FileChange:
    """What one commit did to one file; `diff` holds the unified hunks without the file header."""

    path: str
    old_path: str
    change_type: str
    mode: int
    before_blob: str | None
    after_blob: str | None
    diff: str
    added: int
    deleted: int


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
    found = _git(root, "rev-parse", "--absolute-git-dir", "--show-object-format")
    if found is None:
        raise UserError(
            f"`repo` {path} is not a git repository",
            "a downloaded zip holds no history: use `git clone` and give the clone's top folder",
        )
    git_dir, object_format = found.splitlines()
    if object_format != "sha1":
        raise UserError(f"`repo` {path} stores {object_format} objects", "only SHA-1 repositories can be read yet")
    head = _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head is None:
        raise UserError(f"`repo` {path} has no commits on HEAD", "check out the branch to learn from, or commit first")
    branches = _git(root, "for-each-ref", "--format=x", "refs/heads", "refs/remotes") or ""
    return Repository(root.resolve(), _name(Path(git_dir)), Path(git_dir), head.strip(), len(branches.split()))


def count_commits(repository: Repository) -> int:
    """Number of commits reachable from the head."""
    with _sterile(repository) as git_dir:
        return int(_git(git_dir, "rev-list", "--count", repository.head) or 0)


def read_commits(repository: Repository) -> Iterator[Commit]:
    """Yield every commit reachable from the head, oldest first, branch commits just before the merge that landed them.

    Memory holds one commit at a time. A commit whose objects are missing or corrupt is yielded with `error` set and
    without files; it never ends the traversal.
    """
    shallow = _shallow(repository)
    with _sterile(repository) as git_dir:
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
                yield _read(repository, commit, seq, salt, shallow)
        finally:
            git.clear()


def _read(repository: Repository, commit: pydriller.Commit, seq: int, salt: bytes, shallow: frozenset[str]) -> Commit:
    error: str | None = None
    files: tuple[FileChange, ...] = ()
    if commit.hash in shallow:
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
    )


@contextmanager
def _sterile(repository: Repository) -> Iterator[Path]:
    """A temporary bare repository that borrows the objects of `repository` and nothing else."""
    objects = _git(repository.git_dir, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    assert objects is not None, "open_repository found this git directory"
    with tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        git_dir = Path(folder)
        for name in ("refs/heads", "objects/info"):
            (git_dir / name).mkdir(parents=True)
        (git_dir / "HEAD").write_text(repository.head + "\n")
        (git_dir / "config").write_text(STERILE_CONFIG)
        (git_dir / "objects/info/alternates").write_text(objects)
        if shallow := _shallow(repository):
            (git_dir / "shallow").write_text("\n".join(sorted(shallow)) + "\n")
        yield git_dir


def _shallow(repository: Repository) -> frozenset[str]:
    path = _git(repository.git_dir, "rev-parse", "--path-format=absolute", "--git-path", "shallow") or ""
    boundary = Path(path.strip())
    return frozenset(boundary.read_text().split()) if boundary.is_file() else frozenset()


def _git(folder: Path, *arguments: str) -> str | None:
    """Run a plumbing command that executes nothing of the repository; None if git fails."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments],
        env=inherited | STERILE_ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else None


def _name(git_dir: Path) -> str:
    """A short name for folders and prompts: the folder that holds `.git`, or the bare repository's own."""
    folder = git_dir.parent if git_dir.name == ".git" else git_dir
    return folder.name.removesuffix(".git") or "repository"

"""A git repository at one moment: where its objects are, and from which commit its history is read."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blocklm.config.mining import MiningArguments
from blocklm.errors import UserError
from blocklm.files import check_spelling
from blocklm.git.clone import clone, is_url
from blocklm.git.isolation import ask_git, git_output, said_by

COMMIT = re.compile(r"[0-9a-f]{40}")  # `rev-parse` also answers `^main`, with a caret


@dataclass(frozen=True, slots=True)
class Repository:
    """A readable git repository; `head` is the commit mined from.

    `shallow` holds the commits whose parents were never fetched (`git clone --depth`).
    """

    path: Path
    name: str
    git_dir: Path
    head: str
    branches: int
    shallow: frozenset[str] = frozenset()


def open_repository(source: str | Path, clones: Path, branch: str | None = None, fetch: bool = False) -> Repository:
    """Find the git directory and the head commit, without running anything the repository names.

    Args:
        source: a path, or a URL that is cloned once into `clones`.
        clones: where clones of URLs are kept.
        branch: branch, tag or commit to read instead of HEAD.
        fetch: whether a clone made earlier asks its URL for new commits.

    Raises:
        UserError: no such path, no repository there, no such branch, no commit yet, an object format PyDriller cannot
            read, or a URL that cannot be cloned.
    """
    text = str(source)
    # `Path.expanduser` raises where no such user is.
    root = clone(text, clones, fetch) if is_url(text) else Path(os.path.expanduser(text)).absolute()  # noqa: PTH111
    if not root.is_dir():
        raise UserError(f"`repo` {source} does not exist", "give the path of a cloned git repository, or its URL")
    found = ask_git(root, "rev-parse", "--absolute-git-dir", "--show-object-format")
    if found.returncode != 0:
        raise UserError(
            f"`repo` {source} is not a git repository that can be read: {said_by(found)}",
            "mend what git names, or give the top folder of a clone, or its URL; a downloaded zip holds no history",
        )
    git_dir, _, object_format = found.stdout.removesuffix("\n").rpartition("\n")
    if object_format != "sha1":
        raise UserError(f"`repo` {source} stores {object_format} objects", "only SHA-1 repositories can be read yet")
    branches = (git_output(root, "for-each-ref", "--format=x", "refs/heads", "refs/remotes") or "").split()
    head = _head(root, str(source), branch)
    return Repository(
        root.resolve(), _name(Path(git_dir)), Path(git_dir), head, len(branches), _shallow(Path(git_dir))
    )


def open_repositories(mining: MiningArguments) -> list[Repository]:
    """Open every `repo`, cloning those named by a URL; of several with one name all but the first get a number.

    Raises:
        UserError: one of them cannot be read, or the corpus cannot be kept where it shall be.
    """
    check_spelling("corpus_dir", Path(mining.corpus_dir))
    clones = Path(mining.corpus_dir) / "clones"
    opened = [open_repository(source, clones, mining.branch, mining.fetch) for source in mining.repo]
    names = [repository.name for repository in opened]
    earlier = [names[:at].count(name) for at, name in enumerate(names)]
    return [
        replace(there, name=f"{there.name}-{before + 1}") if before else there
        for there, before in zip(opened, earlier, strict=True)
    ]


def joint_head(repositories: Sequence[Repository]) -> str:
    """What the corpus was mined from, as the manifest's `repository.head` says it."""
    return "+".join(repository.head for repository in repositories)


def _head(root: Path, source: str, branch: str | None) -> str:
    if branch is None:
        head = ask_git(root, "rev-parse", "--verify", "HEAD^{commit}")
        if head.returncode != 0:
            raise UserError(
                f"`repo` {source} has no commits on HEAD: {said_by(head)}",
                "name one with `branch`, check one out, or commit first; `git fsck` says what is damaged",
            )
        return head.stdout.strip()
    for prefix in ("refs/heads/", "refs/remotes/origin/", "refs/tags/", ""):
        head = ask_git(root, "rev-parse", "--verify", "--end-of-options", f"{prefix}{branch}^{{commit}}")
        if head.returncode == 0 and COMMIT.fullmatch(head.stdout.strip()):
            return head.stdout.strip()
    why = f": {said_by(head)}" if head.returncode else ""
    raise UserError(f"`branch` {branch} is not in {source}{why}", f"`git -C {source} branch --all` lists what is")


def _shallow(git_dir: Path) -> frozenset[str]:
    path = git_output(git_dir, "rev-parse", "--path-format=absolute", "--git-path", "shallow") or ""
    boundary = Path(path.removesuffix("\n"))
    return frozenset(boundary.read_text(encoding="ascii").split()) if boundary.is_file() else frozenset()


def _name(git_dir: Path) -> str:
    """A short name for folders and prompts: the folder that holds `.git`, or the bare repository's own."""
    folder = git_dir.parent if git_dir.name == ".git" else git_dir
    return re.sub(r"[^\w.-]", "-", folder.name.removesuffix(".git")).lstrip(".") or "repository"

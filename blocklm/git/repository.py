"""Opens git repositories: finds the objects, and the commit from which the history is read."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blocklm.config.mining import MiningArguments
from blocklm.errors import UserError
from blocklm.files import check_spelling
from blocklm.git.clone import clone, is_url
from blocklm.git.isolation import ask_git, failure_of, git_output

COMMIT = re.compile(r"[0-9a-f]{40}")  # `rev-parse` also accepts `^main`, and puts a caret before the id


@dataclass(frozen=True, slots=True)
class Repository:
    """A readable git repository.

    Attributes:
        path: work tree, or git directory of a bare repository.
        name: short name for folders and prompts.
        git_dir: git directory.
        head: id of the newest commit to read.
        branches: number of local and remote branches.
        shallow: ids of the commits whose parents were never fetched (`git clone --depth`).
    """

    path: Path
    name: str
    git_dir: Path
    head: str
    branches: int
    shallow: frozenset[str] = frozenset()

    @property
    def spelled_path(self) -> str:
        """The path as text that JSON can hold: a byte that is not UTF-8 is replaced."""
        return os.fsencode(self.path).decode("utf-8", "replace")


def open_repository(source: str | Path, clones: Path, branch: str | None = None, fetch: bool = False) -> Repository:
    """Find the git directory and the head commit, without running a program that the repository names.

    Args:
        source: path, or URL that is cloned once into `clones`.
        clones: folder for clones of URLs.
        branch: branch, tag or commit to read instead of HEAD.
        fetch: whether a clone made earlier fetches new commits.

    Raises:
        UserError: the path, repository, branch or first commit does not exist, PyDriller cannot read the object format,
            or the URL cannot be cloned.
    """
    text = str(source)
    # `Path.expanduser` raises for an unknown user.
    root = clone(text, clones, fetch) if is_url(text) else Path(os.path.expanduser(text)).absolute()  # noqa: PTH111
    if not root.is_dir():
        raise UserError(f"`repo` {source} does not exist", "give the path of a cloned git repository, or its URL")
    done = ask_git(root, "rev-parse", "--absolute-git-dir", "--show-object-format")
    if done.returncode != 0:
        raise UserError(
            f"`repo` {source} is not a git repository that can be read: {failure_of(done)}",
            "repair what git names, or give the top folder of a clone, or its URL; a downloaded zip holds no history",
        )
    git_dir, _, object_format = done.stdout.removesuffix("\n").rpartition("\n")
    if object_format != "sha1":
        raise UserError(f"`repo` {source} stores {object_format} objects", "only SHA-1 repositories can be read yet")
    branches = (git_output(root, "for-each-ref", "--format=x", "refs/heads", "refs/remotes") or "").split()
    head = _head(root, str(source), branch)
    return Repository(
        root.resolve(), _name(Path(git_dir)), Path(git_dir), head, len(branches), _shallow(Path(git_dir))
    )


def open_repositories(mining: MiningArguments) -> list[Repository]:
    """Open every `repo`, cloning those named by a URL; a name that is taken already gets a number.

    Raises:
        UserError: a repository cannot be read, or `corpus_dir` is not spelled in UTF-8.
    """
    check_spelling("corpus_dir", Path(mining.corpus_dir))
    clones = Path(mining.corpus_dir) / "clones"
    repositories = [open_repository(source, clones, mining.branch, mining.fetch) for source in mining.repo]
    names = [repository.name for repository in repositories]
    namesakes = [names[:index].count(name) for index, name in enumerate(names)]
    return [
        replace(repository, name=f"{repository.name}-{before + 1}") if before else repository
        for repository, before in zip(repositories, namesakes, strict=True)
    ]


def joint_head(repositories: Sequence[Repository]) -> str:
    """The heads of all repositories joined by `+`, as in the manifest's `repository.head`."""
    return "+".join(repository.head for repository in repositories)


def _head(root: Path, source: str, branch: str | None) -> str:
    if branch is None:
        head = ask_git(root, "rev-parse", "--verify", "HEAD^{commit}")
        if head.returncode != 0:
            raise UserError(
                f"`repo` {source} has no commits on HEAD: {failure_of(head)}",
                "name one with `branch`, check one out, or commit first; run `git fsck` to see what is damaged",
            )
        return head.stdout.strip()
    for prefix in ("refs/heads/", "refs/remotes/origin/", "refs/tags/", ""):
        head = ask_git(root, "rev-parse", "--verify", "--end-of-options", f"{prefix}{branch}^{{commit}}")
        if head.returncode == 0 and COMMIT.fullmatch(head.stdout.strip()):
            return head.stdout.strip()
    why = f": {failure_of(head)}" if head.returncode else ""
    raise UserError(
        f"`branch` {branch} is not in {source}{why}", f"run `git -C {source} branch --all` to list all branches"
    )


def _shallow(git_dir: Path) -> frozenset[str]:
    path = git_output(git_dir, "rev-parse", "--path-format=absolute", "--git-path", "shallow") or ""
    boundary = Path(path.removesuffix("\n"))
    return frozenset(boundary.read_text(encoding="ascii").split()) if boundary.is_file() else frozenset()


def _name(git_dir: Path) -> str:
    """A short name for folders and prompts: that of the folder with `.git`, or of the bare repository's own folder."""
    folder = git_dir.parent if git_dir.name == ".git" else git_dir
    return re.sub(r"[^\w.-]", "-", folder.name.removesuffix(".git")).lstrip(".") or "repository"

"""Git without anything of the mined repository that could run.

A mined repository's config may name programs (a file system monitor, a diff driver, a credential helper) that git would
start. A sterile bare repository of our own borrows its objects, so that config, hooks, attributes, index and work tree
are never read; and git itself is started without user and system config, network, prompts and replaced objects.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STERILE_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
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


@contextmanager
def sterile_repository(git_dir: Path, head: str, boundary: frozenset[str]) -> Iterator[Path]:
    """A temporary bare repository that borrows the objects of `git_dir` and nothing else.

    Args:
        git_dir: whose objects to borrow.
        head: commit that HEAD points at.
        boundary: commits to read as if they had no parents.
    """
    objects = git_output(git_dir, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    assert objects is not None, "the caller found this git directory"
    with _without_inherited_variables(), tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        sterile = Path(folder)
        for name in ("refs/heads", "objects/info"):
            (sterile / name).mkdir(parents=True)
        (sterile / "HEAD").write_text(head + "\n")
        (sterile / "config").write_text(STERILE_CONFIG)
        (sterile / "objects/info/alternates").write_text(objects)
        if boundary:
            (sterile / "shallow").write_text("\n".join(sorted(boundary)) + "\n")
        yield sterile


@contextmanager
def _without_inherited_variables() -> Iterator[None]:
    """Hide `GIT_DIR`, `GIT_INDEX_FILE` and their kin, which a hook sets: GitPython hands its children our environment."""
    inherited = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("GIT_")}
    try:
        yield
    finally:
        os.environ.update(inherited)


def git_output(folder: Path, *arguments: str) -> str | None:
    """The output of a plumbing command that executes nothing of the repository; None if git fails."""
    done = run_git(folder, *arguments)
    return done.stdout if done.returncode == 0 else None


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a plumbing command that executes nothing of the repository, without the caller's `GIT_*` variables."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(
        ["git", "-c", "safe.directory=*", "-C", str(folder), *arguments],
        env=inherited | STERILE_ENVIRONMENT | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )

"""Runs git so that nothing in a mined repository can run a program.

A mined repository's config may name programs (a file system monitor, a diff driver, a credential helper) that git
would start; `--no-ext-diff --no-textconv` does not stop them all. So git runs in a bare repository of our own that
borrows the objects: the mined repository's config, hooks, attributes, index and work tree are never read. Git also
runs without user and system config, network, prompts and replaced objects.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocklm.errors import UserError

FAILURE_CHARS = 300
ISOLATED_ENVIRONMENT = {
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
# The rename limit is fixed so that the result depends on nothing else. A file above the threshold reads as binary
# instead of filling memory. Git reads the user's attributes even without the user's configuration, unless their file
# is another.
ISOLATED_CONFIG = """[core]
	repositoryformatversion = 0
	bare = true
	quotePath = true
	bigFileThreshold = 10m
	commitGraph = false
	attributesFile = /dev/null
[diff]
	renameLimit = 1000
"""


@contextmanager
def isolated_repository(git_dir: Path, boundary: frozenset[str]) -> Iterator[dict[str, str]]:
    """Make a bare repository that borrows the objects of `git_dir` and nothing else; the end of the block deletes it.

    HEAD stays unborn: newer git reads the attributes of HEAD's tree in a bare repository, and the mined rows must
        depend
    on nothing but the commits. Git follows alternates of the objects (`git clone --shared`).

    Args:
        git_dir: git directory with the objects.
        boundary: commits to read as if they had no parents.

    Yields:
        The environment variables for git processes in this repository; `GIT_DIR` is its folder.
    """
    objects = git_output(git_dir, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    assert objects is not None, "the caller found this git directory"
    with _without_inherited_variables() as inherited, tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        isolated = Path(folder)
        for name in ("refs/heads", "objects"):
            (isolated / name).mkdir(parents=True)
        (isolated / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
        (isolated / "config").write_text(ISOLATED_CONFIG, encoding="ascii")
        if boundary:
            (isolated / "shallow").write_text("\n".join(sorted(boundary)) + "\n", encoding="ascii")
        borrowed = {"GIT_DIR": folder, "GIT_OBJECT_DIRECTORY": objects.removesuffix("\n")}
        yield inherited | ISOLATED_ENVIRONMENT | borrowed


@contextmanager
def _without_inherited_variables() -> Iterator[dict[str, str]]:
    """Hide variables such as `GIT_DIR`, which a hook sets and GitPython would pass on; they return after the block."""
    inherited = {key: os.environ.pop(key) for key in list(os.environ) if key.startswith("GIT_")}
    try:
        yield dict(os.environ)
    finally:
        os.environ.update(inherited)


def git_output(folder: Path, *arguments: str) -> str | None:
    """The output of `ask_git`; None if git fails."""
    done = ask_git(folder, *arguments)
    return done.stdout if done.returncode == 0 else None


def ask_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a plumbing command in an untrusted repository; the command must be one that runs no program of it."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    ceiling = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return run_git(inherited | ISOLATED_ENVIRONMENT | ceiling, "-c", "safe.directory=*", "-C", str(folder), *arguments)


def run_git(environment: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run git to its end in `environment`, with the text `given` on its standard input.

    Raises:
        UserError: git cannot be started.
    """
    try:
        return subprocess.run(
            ["git", *arguments],
            env=environment,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # a path may hold any bytes
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"`git` cannot be started: {error}", "install git, or add its folder to `PATH`") from None


def failure_of(done: subprocess.CompletedProcess[str]) -> str:
    """The end of git's error output, on one line that can be printed."""
    errors = done.stderr.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(errors.split())[-FAILURE_CHARS:] or f"git ended with code {done.returncode} and no message"


def run_git_bytes(environment: dict[str, str], *arguments: str, given: bytes) -> bytes:
    """Run git with bytes as its input, and return its output undecoded, as the contents of files need it."""
    return subprocess.run(["git", *arguments], env=environment, input=given, capture_output=True, check=False).stdout

"""Git without anything of the mined repository that could run.

A mined repository's config may name programs (a file system monitor, a diff driver, a credential helper) that git would
start; `--no-ext-diff --no-textconv` does not stop them all. A sterile bare repository of our own borrows its objects, so
that config, hooks, attributes, index and work tree are never read; and git itself is started without user and system
config, network, prompts and replaced objects.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocklm.errors import UserError

SAID_CHARS = 300
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
# What git finds, it shows: renames are pinned, a file above the threshold reads as binary instead of filling memory, and the
# user's own attributes, which git reads even without the user's configuration, make nothing binary.
STERILE_CONFIG = """[core]
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
    """A temporary bare repository that borrows the objects of `git_dir` and nothing else; it goes with the block.

    HEAD stays unborn: newer git reads the attributes of HEAD's tree in a bare repository, and what is mined must depend
    on nothing but the commits. Where the objects have alternates (`git clone --shared`), git follows them.

    Args:
        git_dir: whose objects to borrow.
        boundary: commits to read as if they had no parents.

    Yields:
        The environment in which any git process works on it; `GIT_DIR` is its folder.
    """
    objects = git_output(git_dir, "rev-parse", "--path-format=absolute", "--git-path", "objects")
    assert objects is not None, "the caller found this git directory"
    with _without_inherited_variables() as inherited, tempfile.TemporaryDirectory(prefix="blocklm-") as folder:
        sterile = Path(folder)
        for name in ("refs/heads", "objects"):
            (sterile / name).mkdir(parents=True)
        (sterile / "HEAD").write_text("ref: refs/heads/none\n", encoding="ascii")
        (sterile / "config").write_text(STERILE_CONFIG, encoding="ascii")
        if boundary:
            (sterile / "shallow").write_text("\n".join(sorted(boundary)) + "\n", encoding="ascii")
        borrowed = {"GIT_DIR": folder, "GIT_OBJECT_DIRECTORY": objects.removesuffix("\n")}
        yield inherited | STERILE_ENVIRONMENT | borrowed


@contextmanager
def _without_inherited_variables() -> Iterator[dict[str, str]]:
    """Hide `GIT_DIR`, `GIT_INDEX_FILE` and their kin, which a hook sets: GitPython hands its children our environment."""
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
    """Run a plumbing command in a repository of somebody else; it must be one that executes nothing of it."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    ceiling = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}
    return run_git(inherited | STERILE_ENVIRONMENT | ceiling, "-c", "safe.directory=*", "-C", str(folder), *arguments)


def run_git(environment: dict[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run git to its end in `environment`, with `given` on its standard input.

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
            errors="surrogateescape",  # a path may be any bytes
            check=False,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise UserError(f"`git` cannot be started: {error}", "install git, and let `PATH` name its folder") from None


def said_by(done: subprocess.CompletedProcess[str]) -> str:
    """The end of what git said about its failure, in one line that can be printed."""
    said = done.stderr.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return " ".join(said.split())[-SAID_CHARS:] or f"git ended with code {done.returncode} and said nothing"


def run_git_bytes(environment: dict[str, str], *arguments: str, given: bytes) -> bytes:
    """The output of git as it is, which for contents of files may be anything."""
    return subprocess.run(["git", *arguments], env=environment, input=given, capture_output=True, check=False).stdout

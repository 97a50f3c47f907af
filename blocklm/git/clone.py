"""Repositories named by a URL: cloned once, bare and with all blobs, into the corpus cache."""

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from blocklm.config.urls import check_repository_url, without_secrets
from blocklm.errors import UserError

logger = logging.getLogger(__name__)

URL = re.compile(r"(https?|ssh|git|file)://|[\w.-]+@[\w.-]+:")
# A URL may name a helper that runs a command (`ext::sh -c ...`): only these protocols are spoken.
PROTOCOLS = "https:http:ssh:git:file"
REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


def is_url(source: str) -> bool:
    """Whether `source` names a repository elsewhere rather than a path."""
    return bool(URL.match(source)) or "::" in source


def clone(url: str, clones: Path, fetch: bool) -> Path:
    """The clone of `url` under `clones`, made now or earlier; with `fetch` an earlier one is brought up to date.

    The user's own git configuration applies (credentials, proxies); hooks do not. A clone keeps its URL,
    so one that holds a secret is not cloned.

    Raises:
        UserError: git cannot clone or fetch, or the URL speaks an unknown protocol or holds a secret.
    """
    check_repository_url(url)
    if not URL.match(url):
        raise UserError(f"`repo` {url} names an unknown protocol", f"known are {PROTOCOLS.replace(':', ', ')}")
    name = re.sub(r"[^\w.-]", "-", re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")).lstrip(".") or "clone"
    folder = clones / sha256(url.encode()).hexdigest()[:12] / f"{name}.git"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if not folder.is_dir():
            logger.info("cloning %s into %s (once)", url, folder)
            for killed in folder.parent.glob(".cloning-*"):
                shutil.rmtree(killed, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".cloning-") as temporary:
                made = Path(temporary) / folder.name
                _git(url, "clone", "--bare", "--no-recurse-submodules", "--", url, str(made))
                made.rename(folder)
        elif fetch:
            _git(url, "-C", str(folder), "fetch", "--prune", "--no-recurse-submodules", "origin", *REFS)
            _follow_head(folder)
        else:
            logger.info("using the clone of %s in %s; `--fetch true` asks for new commits", url, folder)
    return folder


def _follow_head(folder: Path) -> None:
    """Point HEAD at the branch that the URL's own HEAD names now; it may have been renamed since the clone."""
    command = ["git", "-C", str(folder), "-c", f"core.hooksPath={os.devnull}"]
    asked = subprocess.run(
        [*command, "ls-remote", "--symref", "origin", "HEAD"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if branch := re.match(r"ref: (refs/heads/\S+)\tHEAD", asked.stdout):
        subprocess.run([*command, "symbolic-ref", "HEAD", branch[1]], env=_environment(), check=True)


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return inherited | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _git(url: str, *arguments: str) -> None:
    progress = ("--progress",) if sys.stderr.isatty() else ("--quiet",)
    command = arguments.index("clone" if "clone" in arguments else "fetch") + 1
    done = subprocess.run(
        ["git", "-c", f"core.hooksPath={os.devnull}", *arguments[:command], *progress, *arguments[command:]],
        env=_environment(),
        stdout=sys.stderr,
        stderr=None if sys.stderr.isatty() else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = " ".join(without_secrets(done.stderr or "see above").split())[-300:]
        raise UserError(f"`repo` {url} cannot be read: {reason}", "check the URL, the network and your access to it")

"""Clones repositories named by a URL into the corpus directory: once, bare and with all blobs."""

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
# A URL may name a helper that runs a command (`ext::sh -c ...`), so only these protocols are allowed.
PROTOCOLS = "https:http:ssh:git:file"
REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
# The caller's variables that git needs to reach a URL. A hook sets others, which belong to another repository.
NETWORK_VARIABLES = re.compile(r"GIT_(ASKPASS$|CONFIG_|EXEC_PATH$|HTTP_|PROXY_|SSH|SSL_)")
# Settings that we rely on and that the user may have configured otherwise.
SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "init.templateDir=",
    "clone.defaultRemoteName=blocklm",  # a remote that the user's configuration does not mention
    "clone.rejectShallow=false",
    "fetch.recurseSubmodules=false",
    "color.ui=false",
)
KEPT_ERROR_BYTES = 1 << 12


def is_url(source: str) -> bool:
    """Whether `source` names a repository elsewhere rather than a path."""
    return bool(URL.match(source)) or "::" in source


def clone(url: str, clones: Path, fetch: bool) -> Path:
    """Clone a URL, or return the clone made earlier.

    The user's own git configuration applies (credentials, proxies), but no hooks run. A clone stores its URL, so a URL
    with a secret is refused.

    Args:
        url: the repository's URL.
        clones: folder of all clones.
        fetch: whether an earlier clone fetches new commits.

    Returns:
        The clone's git directory.

    Raises:
        UserError: git cannot clone or fetch, or the URL has an unknown protocol or holds a secret.
    """
    check_repository_url(url)
    if not URL.match(url):
        raise UserError(f"`repo` {url} names an unknown protocol", f"use one of {PROTOCOLS.replace(':', ', ')}")
    name = re.sub(r"[^\w.-]", "-", re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")).lstrip(".") or "clone"
    folder = clones / sha256(os.fsencode(url)).hexdigest()[:12] / f"{name}.git"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if not folder.is_dir():
            logger.info("cloning %s into %s (once)", url, folder)
            for abandoned in folder.parent.glob(".cloning-*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".cloning-") as temporary:
                new_clone = Path(temporary) / folder.name
                _git(url, "clone", "--bare", "--no-recurse-submodules", *_progress(), "--", url, str(new_clone))
                new_clone.rename(folder)
        elif fetch:
            command = (f"--git-dir={folder}", "fetch", "--prune", "--no-recurse-submodules", *_progress())
            _git(url, *command, "--", url, *REFS)
            _follow_head(folder, url)
        else:
            logger.info("using the clone of %s in %s; `--fetch true` asks for new commits", url, folder)
    return folder


def _progress() -> tuple[str, ...]:
    return ("--progress",) if sys.stderr.isatty() else ("--quiet",)


def _follow_head(folder: Path, url: str) -> None:
    """Point HEAD at the branch of the URL's own HEAD, which may have been renamed since the clone."""
    listing = _git(url, f"--git-dir={folder}", "ls-remote", "--symref", "--", url, "HEAD")
    if branch := re.match(r"ref: (refs/heads/\S+)\tHEAD", listing):
        _git(url, f"--git-dir={folder}", "symbolic-ref", "HEAD", branch[1])


def _git(url: str, *arguments: str) -> str:
    """Run git and return its output; on a terminal its progress is shown.

    Raises:
        UserError: git fails; the message holds git's own error.
    """
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") or NETWORK_VARIABLES.match(key)
    }
    environment = inherited | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    errors = b""
    with tempfile.TemporaryFile() as output:
        command = ["git", *(part for setting in SETTINGS for part in ("-c", setting)), *arguments]
        with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.PIPE, bufsize=0) as process:
            assert process.stderr is not None
            while block := process.stderr.read(1 << 12):
                errors = (errors + block)[-KEPT_ERROR_BYTES:]
                if sys.stderr.isatty():
                    sys.stderr.write(without_secrets(block.decode("utf-8", "replace")))
                    sys.stderr.flush()
        output.seek(0)
        answer = output.read().decode("utf-8", "surrogateescape")
    if process.returncode:
        reason = " ".join(without_secrets(errors.decode("utf-8", "replace")).split())[-300:]
        raise UserError(
            f"`repo` {url} cannot be read: {reason or f'git ended with code {process.returncode}'}",
            "check the URL, the network and your access to it",
        )
    return answer

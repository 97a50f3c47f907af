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
# Of the caller's variables git gets those that help it to reach a URL; a hook sets others, for a repository that is not ours.
REACHES = re.compile(r"GIT_(ASKPASS$|CONFIG_|EXEC_PATH$|HTTP_|PROXY_|SSH|SSL_)")
# What the user may have configured otherwise, and what we rely on.
SETTINGS = (
    f"core.hooksPath={os.devnull}",
    "init.templateDir=",
    "clone.defaultRemoteName=blocklm",  # of which the user has set nothing
    "clone.rejectShallow=false",
    "fetch.recurseSubmodules=false",
    "color.ui=false",
)
SAID_BYTES = 1 << 12


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
    folder = clones / sha256(os.fsencode(url)).hexdigest()[:12] / f"{name}.git"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / ".lock"):
        if not folder.is_dir():
            logger.info("cloning %s into %s (once)", url, folder)
            for killed in folder.parent.glob(".cloning-*"):
                shutil.rmtree(killed, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".cloning-") as temporary:
                made = Path(temporary) / folder.name
                _git(url, "clone", "--bare", "--no-recurse-submodules", *_progress(), "--", url, str(made))
                made.rename(folder)
        elif fetch:
            kept = (f"--git-dir={folder}", "fetch", "--prune", "--no-recurse-submodules", *_progress())
            _git(url, *kept, "--", url, *REFS)
            _follow_head(folder, url)
        else:
            logger.info("using the clone of %s in %s; `--fetch true` asks for new commits", url, folder)
    return folder


def _progress() -> tuple[str, ...]:
    return ("--progress",) if sys.stderr.isatty() else ("--quiet",)


def _follow_head(folder: Path, url: str) -> None:
    """Point HEAD at the branch that the URL's own HEAD names now; it may have been renamed since the clone."""
    asked = _git(url, f"--git-dir={folder}", "ls-remote", "--symref", "--", url, "HEAD")
    if branch := re.match(r"ref: (refs/heads/\S+)\tHEAD", asked):
        _git(url, f"--git-dir={folder}", "symbolic-ref", "HEAD", branch[1])


def _git(url: str, *arguments: str) -> str:
    """The output of git; on a terminal its progress is seen.

    Raises:
        UserError: it fails; git's own words say why.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or REACHES.match(key)}
    environment = inherited | {"GIT_ALLOW_PROTOCOL": PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    said = b""
    with tempfile.TemporaryFile() as output:
        command = ["git", *(part for setting in SETTINGS for part in ("-c", setting)), *arguments]
        with subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.PIPE, bufsize=0) as process:
            assert process.stderr is not None
            while heard := process.stderr.read(1 << 12):
                said = (said + heard)[-SAID_BYTES:]
                if sys.stderr.isatty():
                    sys.stderr.write(without_secrets(heard.decode("utf-8", "replace")))
                    sys.stderr.flush()
        output.seek(0)
        answer = output.read().decode("utf-8", "surrogateescape")
    if process.returncode:
        reason = " ".join(without_secrets(said.decode("utf-8", "replace")).split())[-300:]
        raise UserError(
            f"`repo` {url} cannot be read: {reason or f'git ended with code {process.returncode}'}",
            "check the URL, the network and your access to it",
        )
    return answer

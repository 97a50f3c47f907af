"""Mining runs nothing of the repository: for each way in, plain git runs a payload and mining does not."""

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from blocklm.errors import UserError
from tests.conftest import GitRepository, history_of


@dataclass(frozen=True)
class Channel:
    """Configuration that names the payload (`%s`), and a git command that a miner might well use and that runs it."""

    config: dict[str, str]
    command: str
    attributes: str = ""
    hook: str = ""
    prepare: str = ""


LAZY = {"extensions.partialClone": "origin", "remote.origin.promisor": "true", "core.repositoryFormatVersion": "1"}
CHANNELS = {
    "file system monitor": Channel({"core.fsmonitor": "%s"}, "git diff-tree -p --no-ext-diff --no-textconv HEAD"),
    "external diff": Channel({"diff.external": "%s"}, "git diff HEAD~1"),
    "text conversion": Channel({"diff.evil.textconv": "%s"}, "git log -p", "*.py diff=evil\n"),
    "diff driver": Channel({"diff.evil.command": "%s"}, "git diff HEAD~1", "*.py diff=evil\n"),
    "clean filter": Channel({"filter.evil.clean": "%s"}, "touch a.py; git diff", "*.py filter=evil\n"),
    "smudge filter": Channel({"filter.evil.smudge": "%s"}, "rm a.py; git checkout -- .", "*.py filter=evil\n"),
    "filter process": Channel({"filter.evil.process": "%s"}, "touch a.py; git status", "*.py filter=evil\n"),
    "hook": Channel({}, "git checkout --quiet --detach HEAD", hook="post-checkout"),
    "hooks elsewhere": Channel({"core.hooksPath": "hooks"}, "git checkout -q --detach HEAD", hook="hooks/post-checkout"),
    "reference hook": Channel({}, "git update-ref refs/heads/x HEAD", hook="reference-transaction"),
    "alias": Channel({"alias.history": "!%s"}, "git history"),
    "signature program": Channel({"log.showSignature": "true", "gpg.program": "%s"}, "git log -p --no-ext-diff", prepare="sign"),
    "submodule": Channel({"status.submoduleSummary": "true"}, "git status", prepare="submodule"),
    "fetch by a helper": Channel(
        LAZY | {"remote.origin.url": "ext::%s", "protocol.ext.allow": "always"}, "git log -p", prepare="lose a blob"
    ),
    "fetch by ssh": Channel(
        LAZY | {"remote.origin.url": "ssh://nowhere/x", "core.sshCommand": "%s"}, "git log -p", prepare="lose a blob"
    ),
    "fetch by upload-pack": Channel(
        LAZY | {"remote.origin.url": "file:///", "remote.origin.uploadpack": "%s"}, "git log -p", prepare="lose a blob"
    ),
}  # fmt: skip


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=CHANNELS.keys())
def test_a_payload_that_git_runs_is_not_run_by_mining(
    make_repository: Callable[[str], GitRepository], tmp_path: Path, channel: Channel
) -> None:
    repository = make_repository("hostile")
    repository.commit("one", {"a.py": "x = 1\n", ".gitattributes": channel.attributes or "* text\n"})
    repository.commit("two", {"a.py": "x = 2\n"})
    trace, payload = tmp_path / "it-ran", tmp_path / "payload"
    payload.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(trace))}\n")
    payload.chmod(0o755)
    _prepare(repository, channel.prepare, payload)
    if channel.hook:
        hook = repository.path / (channel.hook if "/" in channel.hook else f".git/hooks/{channel.hook}")
        hook.parent.mkdir(exist_ok=True)
        hook.symlink_to(payload)
    for key, value in channel.config.items():
        repository.git("config", key, value.replace("%s", str(payload)))
    subprocess.run(channel.command, shell=True, cwd=repository.path, capture_output=True, check=False)
    assert trace.exists(), "the payload must fire under plain git, or this test shows nothing"
    trace.unlink()
    assert len(history_of(repository.path)) >= 2
    assert not trace.exists()


def _prepare(repository: GitRepository, kind: str, payload: Path) -> None:
    if kind == "sign":
        text = repository.git("cat-file", "commit", "HEAD")
        signed = text.replace(
            "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
        )
        command = ["git", "-C", str(repository.path), "hash-object", "-t", "commit", "-w", "--stdin"]
        sha = subprocess.run(command, input=signed, text=True, capture_output=True, check=True).stdout.strip()
        repository.git("update-ref", "refs/heads/main", sha)
    elif kind == "submodule":
        inner = GitRepository(repository.path / "inner")
        inner.commit("inner", {"b.py": "y\n"})
        inner.git("config", "core.fsmonitor", str(payload))
        repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "./inner", "inner")
        repository.commit("module", {})
        payload.parent.joinpath("it-ran").unlink(missing_ok=True)
    elif kind == "lose a blob":
        blob = repository.git("rev-parse", "HEAD:a.py").strip()
        (repository.path / ".git/objects" / blob[:2] / blob[2:]).unlink()


def test_a_missing_head_is_not_fetched_either(make_repository: Callable[[str], GitRepository], tmp_path: Path) -> None:
    """The head is looked up in the repository itself, whose config git reads."""
    repository = make_repository("headless")
    sha = repository.commit("one", {"a.py": "x = 1\n"})
    (repository.path / ".git/objects" / sha[:2] / sha[2:]).unlink()
    trace = tmp_path / "it-ran"
    for key, value in (LAZY | {"remote.origin.url": f"ext::touch {trace}", "protocol.ext.allow": "always"}).items():
        repository.git("config", key, value)
    subprocess.run(["git", "log"], cwd=repository.path, capture_output=True, check=False)
    assert trace.exists()
    trace.unlink()
    with pytest.raises(UserError, match="has no commits on HEAD"):
        history_of(repository.path)
    assert not trace.exists()


def test_the_environment_of_the_caller_cannot_name_a_program(project: Path, tmp_path: Path) -> None:
    trace = tmp_path / "it-ran"
    os.environ["GIT_EXTERNAL_DIFF"] = f"touch {trace}; :"
    try:
        subprocess.run(["git", "-C", str(project), "diff", "HEAD~1"], capture_output=True, check=False)
        assert trace.exists()
        trace.unlink()
        assert len(history_of(project)) == 35
        assert not trace.exists()
        assert "GIT_EXTERNAL_DIFF" in os.environ, "what was hidden is given back"
    finally:
        del os.environ["GIT_EXTERNAL_DIFF"]

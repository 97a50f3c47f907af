"""Uploads by the real client to a loopback hub: what arrives, what is refused, what a second try transfers."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.loopback_hub import TOKEN, LoopbackHub
from tests.support.scripts import script_environment

UPLOAD = """
import sys
from pathlib import Path
from blocklm.console import console
from blocklm.release.hub import check_reachable, licence_of, upload
with console():
    folder, repo, private = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "private"
    check_reachable(repo)
    print(upload(folder, repo, private, "A message"))
"""


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with LoopbackHub() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    (ready / "adapter_model.safetensors").write_bytes(os.urandom(40_000))
    (ready / "tokenizer.json").write_bytes(b"{" + b" " * 20_000 + b"}")
    return ready


def command(folder: Path, privacy: str = "private") -> list[str]:
    return [sys.executable, "-c", UPLOAD, str(folder), "tester/adapter", privacy]


def push(hub: LoopbackHub, folder: Path, privacy: str = "private", **more: str) -> subprocess.CompletedProcess[str]:
    environment = script_environment() | {"PYTHONPATH": str(ROOT)} | hub.environment(folder.parent / "home", **more)
    return subprocess.run(command(folder, privacy), env=environment, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
    return done.stderr


def test_all_files_arrive_in_one_commit_of_a_private_repository(hub: LoopbackHub, folder: Path) -> None:
    done = push(hub, folder)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/tester/adapter/commit/" in done.stdout
    repo = hub.repos["tester/adapter"]
    assert repo["private"]
    assert [commit["title"] for commit in repo["commits"]] == ["initial commit", "A message"]
    arrived = {name: content for name, content in hub.files("tester/adapter").items() if name != ".gitattributes"}
    assert arrived == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert hub.requests("lfs_object") == 4, "two large files, each sent and verified"
    assert push(hub, folder).returncode == 0, "it exists already (409), which is no error"
    assert hub.requests("lfs_object") == 4, "nothing is sent twice"


def test_a_killed_upload_resumes(hub: LoopbackHub, folder: Path) -> None:
    """The process is killed after the first large file and during the second, and only the second is sent again."""
    environment = script_environment() | {"PYTHONPATH": str(ROOT)} | hub.environment(folder.parent / "home")
    seen: list[str] = []
    sent_again: list[str] = []
    second, dead = threading.Event(), threading.Event()

    def lose_second(oid: str) -> bool:
        seen.append(oid)
        if len(seen) == 1:
            return True
        while not hub.objects:  # both may be on their way at once
            dead.wait(0.01)
        second.set()
        dead.wait(30)
        return False

    def note(oid: str) -> bool:
        sent_again.append(oid)
        return True

    hub.on_object = lose_second
    running = subprocess.Popen(command(folder), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert second.wait(60)
    running.kill()
    running.wait()
    dead.set()
    assert len(hub.objects) == 1
    assert len(hub.repos["tester/adapter"]["commits"]) == 1, "half of it is not to be seen"
    hub.on_object = note
    done = push(hub, folder)
    assert done.returncode == 0, done.stderr
    assert sent_again == [seen[1]]
    assert hub.files("tester/adapter")["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("refusal", "privacy", "more", "expected"),
    [
        ({}, "private", {"HF_TOKEN": "hf_wrong"}, "does not accept the token (401)"),
        ({}, "private", {"HF_TOKEN": ""}, "no token to push"),
        ({}, "private", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
        ({}, "private", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
        ({"commit": (409, "branch moved")}, "private", {}, "is in use (409): branch moved"),
        ({"create": (403, "no write access")}, "private", {}, "may not write to `tester/adapter` (403)"),
    ],
)
def test_a_refusal_is_one_clear_line(
    hub: LoopbackHub,
    folder: Path,
    refusal: dict[str, tuple[int, str]],
    privacy: str,
    more: dict[str, str],
    expected: str,
) -> None:
    hub.refuse = refusal
    assert expected in refused(push(hub, folder, privacy, **more))
    assert all(len(repo["commits"]) == 1 for repo in hub.repos.values())


def test_a_private_push_to_a_public_repository_is_refused(hub: LoopbackHub, folder: Path) -> None:
    hub.add("tester/adapter", {})
    assert "exists and is public" in refused(push(hub, folder))
    assert hub.requests("preupload") == 0
    assert push(hub, folder, "public").returncode == 0


def test_large_files_go_through_xet_where_the_hub_has_it(tmp_path: Path, folder: Path) -> None:
    """The real hf_xet writes to a store in a folder and reads the same bytes back."""
    import hf_xet

    (tmp_path / "store").mkdir()
    pushed = folder / "adapter_model.safetensors"
    oid = hashlib.sha256(pushed.read_bytes()).hexdigest()
    with LoopbackHub(tmp_path / "store") as hub:
        done = push(hub, folder)
        assert done.returncode == 0, done.stderr
        assert hub.requests("xet") >= 1
        assert hub.requests("lfs_object") == 0
        assert hub.files("tester/adapter")[pushed.name] == b"xet " + oid.encode()
        hub.xet[oid] = (str(hf_xet.hash_files([str(pushed)])[0].hash), pushed.stat().st_size)
        code = (
            "import sys; from huggingface_hub import hf_hub_download as get; print(get('tester/adapter', sys.argv[1]))"
        )
        environment = script_environment() | hub.environment(tmp_path / "other home")
        got = subprocess.run(
            [sys.executable, "-c", code, pushed.name], env=environment, capture_output=True, text=True, check=True
        )
    assert Path(got.stdout.strip()).read_bytes() == pushed.read_bytes()

"""The server as a user starts it: its settings for editors, its refusals, its start and its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from blocklm.serving.editors import EDITORS
from tests.conftest import GitRepository
from tests.support.scripts import SCRIPTS, refused, run_in_process, script_environment


@pytest.mark.parametrize("editor", sorted(EDITORS))
def test_the_settings_of_an_editor_name_the_server_and_the_model(editor: str, taught: Path, tmp_path: Path) -> None:
    done = run_in_process("serve.py", taught, "--port", "8017", "--print-config", editor, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "http://127.0.0.1:8017" in done.stdout
    assert ("blocklm:house" in done.stdout) == (editor != "llama.vscode"), "which names no model"
    if editor in ("zed", "llama.vscode"):
        assert json.loads("\n".join(line for line in done.stdout.splitlines() if not line.startswith("//")))


def test_an_address_that_is_taken_is_refused(taught: Path, lamps: GitRepository) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        given = ("--no_path", "--no_pieces", "--port", f"{taken.getsockname()[1]}")
        assert "cannot be listened on" in refused(run_in_process("serve.py", taught, *given, cwd=taught.parent))


@pytest.mark.slow
def test_a_signal_ends_the_server_in_the_middle_of_an_answer(taught: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = int(listening.getsockname()[1])
    command = [sys.executable, str(SCRIPTS / "serve.py"), str(taught), "--port", f"{port}"]
    server = subprocess.Popen(
        command, cwd=taught.parent, env=script_environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for _ in range(600):
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200
            break
        time.sleep(0.1)
    asked = json.dumps({"prompt": "def step_", "max_tokens": 900, "stream": True}).encode()
    with socket.create_connection(("127.0.0.1", port)) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(asked)}\r\n\r\n"
        client.sendall(head.encode() + asked)
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")
        os.kill(server.pid, signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out) == (128 + signal.SIGTERM, "")
    assert f"blocklm:house on http://127.0.0.1:{port}" in err
    assert "Traceback" not in err

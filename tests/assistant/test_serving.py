"""Serving as in `docs/using-the-model.md`: transformers' own server, a merged model, and the real OpenAI client."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from openai import OpenAI

from blocklm.assistant.assistant import Assistant
from blocklm.models.generation.decoding import Decoding
from blocklm.release.merge import merge
from blocklm.runs.completed import open_run
from tests.support.scripts import script_environment

PROMPT, TOKENS = "def step_", 24


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def merged(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run merged in full precision, so that the adapter's own answer can be expected."""
    folder = tmp_path_factory.mktemp("served") / "merged"
    merge(open_run(taught), folder, "float32")
    return folder


@pytest.fixture(scope="module")
def client(merged: Path) -> Iterator[OpenAI]:
    """A client of a server that runs until the end of the module."""
    home, port = merged.parent / "home", free_port()
    (home / "hub").mkdir(parents=True)  # else the list of models is an error 500
    command = ["transformers", "serve", merged.name, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = script_environment() | {
        "HF_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with (merged.parent / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=merged.parent, env=environment, stdout=log, stderr=log)
        try:
            for _ in range(600):
                assert server.poll() is None, (merged.parent / "server.log").read_text()
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        break
                time.sleep(0.1)
            yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


@pytest.fixture(scope="module")
def expected(taught: Path) -> str:
    assistant = Assistant(open_run(taught), Decoding(TOKENS))
    assert assistant.run.source.precision.dtype == torch.float32
    (output,) = assistant.answers([assistant.prompt_builder.text(PROMPT)])
    assert "value" in output.text
    return output.text


def test_the_server_answers_as_the_adapter(client: OpenAI, expected: str) -> None:
    answer = client.completions.create(model="merged", prompt=PROMPT, max_tokens=TOKENS, temperature=0)
    assert answer.choices[0].text == expected
    assert answer.usage is not None and answer.usage.completion_tokens <= TOKENS


def test_the_server_streams_its_answer(client: OpenAI, expected: str) -> None:
    stream = client.completions.create(model="merged", prompt=PROMPT, max_tokens=TOKENS, temperature=0, stream=True)
    pieces = [part.choices[0].text for part in stream]
    assert "".join(pieces) == expected
    assert len([piece for piece in pieces if piece]) > 3


def test_the_server_lists_models_where_a_cache_is(client: OpenAI) -> None:
    assert client.models.list().object == "list"

"""Broken and hostile requests get the protocol's error, and the server answers the next one."""

import json
import socket
import struct
from typing import Any

import httpx
import pytest

from blocklm.serving import bodies
from blocklm.serving.served import Served
from tests.serving.conftest import running
from tests.serving.test_protocols import INFILL

COMPLETION: dict[str, Any] = {"prompt": "def step_", "max_tokens": 4}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/infill", b"", 400, "no JSON"),
        ("/infill", b"{", 400, "no JSON"),
        ("/infill", b"[1]", 400, "no JSON object"),
        ("/infill", b"[" * 100_000, 400, "no JSON"),
        ("/infill", b'{"input_prefix": "\xff"}', 400, "no JSON"),
        ("/infill", b'{"input_prefix": "a", "temperature": NaN}', 400, "no JSON"),
        ("/infill", b'{"input_prefix": "a", "temperature": 1e999}', 400, "`temperature`"),
        ("/infill", b'{"input_prefix": "a", "n_predict": 1e999}', 400, "`n_predict`"),
        ("/infill", b"{}", 400, "are missing"),
        ("/v1/completions", b"{}", 400, "`prompt` must be one string"),
        ("/v1/completions", b'{"prompt": ""}', 400, "`prompt` is empty"),
        ("/v1/nothing", b"{}", 404, "Not Found"),
        ("/health", b"{}", 405, "Method Not Allowed"),
    ],
)
def test_a_broken_body_is_refused(client: httpx.Client, path: str, body: bytes, status: int, message: str) -> None:
    answer = client.post(path, content=body, headers={"content-type": "application/json"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, status)
    assert message in error["message"]


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/infill", "input_prefix", 1),
        ("/infill", "input_extra", "x"),
        ("/infill", "input_extra", [1]),
        ("/infill", "input_extra", [{"text": 1}]),
        ("/infill", "n_predict", "many"),
        ("/infill", "n_predict", True),
        ("/infill", "n_predict", 1.5),
        ("/infill", "response_fields", {"a": 1}),
        ("/infill", "stop", ["x"] * 100),
        ("/infill", "t_max_predict_ms", -1),
        ("/infill", "stream", "yes"),
        ("/v1/completions", "prompt", ["a", "b"]),
        ("/v1/completions", "prompt", [1, 2]),
        ("/v1/completions", "suffix", 1),
        ("/v1/completions", "temperature", "hot"),
        ("/v1/completions", "top_p", 2),
        ("/v1/completions", "model", 3),
        ("/v1/chat/completions", "messages", [{"role": "king", "content": "x"}]),
        ("/v1/chat/completions", "messages", [{"role": "user", "content": [1]}]),
    ],
)
def test_a_wrong_type_is_refused_by_its_name(client: httpx.Client, path: str, field: str, value: Any) -> None:
    asked = {"/infill": INFILL, "/v1/completions": COMPLETION, "/v1/chat/completions": {}}[path]
    answer = client.post(path, json=asked | {field: value})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error"), error
    assert "`" in error["message"]


def test_an_unknown_model_is_refused_with_the_known_ones(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json=COMPLETION | {"model": "gpt-7"})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "there is no model `gpt-7`; there are `blocklm:house`"


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    answer = client.post("/infill", json=INFILL | {"input_prefix": "x" * bodies.MAX_BODY})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, 413)


def test_a_body_that_never_comes_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    with running(served) as client, socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as slow:
        slow.sendall(b"POST /infill HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert slow.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert client.get("/health").status_code == 200


def test_a_foreign_host_or_origin_is_refused(client: httpx.Client) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", ""):
        assert client.get("/v1/models", headers={"host": host}).status_code == 400
    assert client.get("/v1/models", headers={"host": "localhost:9"}).status_code == 200
    answer = client.post("/infill", json=INFILL, headers={"origin": "https://evil.example"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (403, "permission_error")
    assert "access-control-allow-origin" not in answer.headers
    own = str(client.base_url).rstrip("/")
    assert client.post("/infill", json=INFILL | {"n_predict": 1}, headers={"origin": own}).status_code == 200


def test_odd_texts_are_read(client: httpx.Client) -> None:
    """Half of a surrogate pair, NUL, and special tokens of the model beside the cursor."""
    for text in ("\ud800", "\0", "<|endoftext|>", "é\u2028", "x" * 100_000, "\n" * 10_000):
        body = json.dumps(INFILL | {"input_prefix": text, "input_suffix": text, "n_predict": 2}).encode()
        answer = client.post("/infill", content=body)
        assert answer.status_code == 200, answer.text
        assert "<|endoftext|>" not in answer.json()["content"]


def test_a_thousand_requests_that_are_given_up_do_no_harm(client: httpx.Client) -> None:
    body = json.dumps(INFILL | {"n_predict": 64}).encode()
    head = f"POST /infill HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for number in range(1000):
        with socket.create_connection(("127.0.0.1", client.base_url.port or 0)) as given_up:
            given_up.sendall(head + body[: len(body) if number % 3 else 40])
            if number % 2:  # a reset rather than an orderly end
                given_up.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    answer = client.post("/infill", json=INFILL | {"n_predict": 2})
    assert answer.status_code == 200, answer.text

"""Prompts are continued by servers of llama.cpp and OpenAI's protocol, which get token ids and are left when told."""

from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import open_run
from blocklm.serving.engines.growing import Cancelled, Listener
from blocklm.serving.engines.remote import RemoteEngine
from blocklm.serving.question import Limits
from blocklm.serving.refused import Refused
from blocklm.serving.served import Switches, serve_from
from tests.serving.conftest import Open, running
from tests.serving.test_protocols import INFILL
from tests.support.loopback_engine import PIECES, server


@pytest.mark.parametrize("llama_cpp", [True, False], ids=["llama.cpp", "OpenAI"])
def test_an_answer_of_another_server_is_handed_on(llama_cpp: bool, taught: Path) -> None:
    with server(llama_cpp) as (url, asked):
        engine = RemoteEngine(f"{url}/v1", open_run(taught).tokenizer)
        heard: list[str] = []
        answer = engine.answer(
            [5, 6, 7], Limits(Decoding(9, stops=("zzz",))), "", Listener(lambda: False, heard.append)
        )
        assert (answer.text, answer.stopped_by, answer.prompt_tokens) == ("".join(PIECES), "eos", 3)
        assert "".join(heard) == answer.text and len(heard) > 1
        assert (answer.read_tokens, answer.tokens) == ((2, 5) if llama_cpp else (3, 5))
        (request,) = asked
        assert request["prompt"] == [5, 6, 7]
        assert request["path"] == ("/completion" if llama_cpp else "/v1/completions")
        assert request["n_predict" if llama_cpp else "max_tokens"] == 9
        ended = engine.answer([5], Limits(Decoding(9), indentation=2), "", Listener(lambda: False))
        assert (ended.text, ended.stopped_by) == ("    return a + b\n", "limit"), "our own limits hold too"
        with pytest.raises(Cancelled):
            engine.answer([5], Limits(Decoding(9)), "", Listener(lambda: True))


def test_a_run_is_served_from_another_server(taught: Path, opened: Open) -> None:
    with server(llama_cpp=True) as (url, asked), running(serve_from(opened(taught), url, Switches())) as client:
        assert client.post("/infill", json=INFILL | {"n_indent": 0}).json()["content"] == "".join(PIECES)
        prompt = open_run(taught).tokenizer.decode(asked[0]["prompt"])
        assert prompt.endswith("### up to the cursor\nLAMPS = [\n    lantern, lantern, lantern,\n    lantern,")


def test_a_server_that_fails_is_an_error_of_the_protocol(taught: Path, opened: Open) -> None:
    with server(llama_cpp=True, status=500) as (url, _):
        served = serve_from(opened(taught), url, Switches(paths=False, pieces=0))
        with running(served) as client:
            answer = client.post("/infill", json=INFILL)
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "unavailable_error")
        engine = RemoteEngine(url, open_run(taught).tokenizer)
    with pytest.raises(Refused):
        engine.answer([5], Limits(Decoding(9)), "", Listener(lambda: False))


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://127.0.0.1:9", "ftp://x"])
def test_an_address_without_a_server_is_refused(url: str, taught: Path) -> None:
    with pytest.raises(UserError):
        RemoteEngine(url, open_run(taught).tokenizer)

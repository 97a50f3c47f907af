"""Requests of the shape that editors send, over a socket, to a run that memorised its repository."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from blocklm.assistant.assistant import Assistant
from blocklm.corpus.places.place import Place
from blocklm.models.generation.decoding import Decoding
from blocklm.serving.served import Served
from tests.serving.conftest import Open

BEFORE, AFTER = "LAMPS = [\n    lantern, lantern, lantern,\n    lantern,", "\n]\n"
# As llama.vim sends it.
INFILL: dict[str, Any] = {
    "id_slot": 0, "input_prefix": "LAMPS = [\n    lantern, lantern, lantern,\n", "prompt": "    lantern,",
    "input_suffix": AFTER, "input_extra": [], "n_predict": 24, "stop": [], "n_indent": 4, "top_k": 40, "top_p": 0.9,
    "stream": False, "samplers": ["top_k", "top_p", "infill"], "cache_prompt": True, "t_max_prompt_ms": 500,
    "t_max_predict_ms": 60_000, "lora": [{"id": 0, "scale": 1.0}], "model": "",
}  # fmt: skip
FLAT = ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "no/such"]


@pytest.fixture(scope="module")
def written(taught: Path, opened: Open, served: Served) -> str:
    """What the run writes at the cursor, beside the pieces that the server shows it."""
    assistant, context = Assistant(opened(taught), Decoding(24)), served.runs[0].prompts.context
    assert context is not None
    pieces = context.pieces_near(None, BEFORE, AFTER)
    (output,) = assistant.answers(
        [assistant.prompt_builder.gap_at(Place("house", None, BEFORE, AFTER, pieces=pieces))]
    )
    assert "lantern" in output.text
    return output.text


def events(answer: httpx.Response) -> list[str]:
    """The data of each event of a stream."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.endswith("\n\n")
    return [event.removeprefix("data: ") for event in answer.text.removesuffix("\n\n").split("\n\n")]


def test_infill_writes_what_the_run_writes_at_a_cursor(client: httpx.Client, written: str) -> None:
    answer = client.post("/infill", json=INFILL | {"n_indent": 0})
    body = answer.json()
    assert (answer.status_code, body["content"], body["stop"]) == (200, written, True)
    assert body["timings"]["prompt_n"] + body["timings"]["cache_n"] == body["tokens_evaluated"] > 20
    assert body["timings"]["predicted_n"] == body["tokens_predicted"] > 3
    assert '"content":"' in answer.text, "llama.vim finds its fields by a pattern without a space"


def test_only_the_wanted_fields_are_sent_as_flat_keys(client: httpx.Client) -> None:
    body = client.post("/infill", json=INFILL | {"response_fields": FLAT}).json()
    assert list(body) == FLAT[:-1]
    assert body["timings/prompt_n"] >= 1
    assert client.post("/infill", json=INFILL | {"response_fields": [""]}).text == "{}"


def test_a_request_for_no_text_is_answered_at_once(client: httpx.Client) -> None:
    warm = INFILL | {"n_predict": 0, "samplers": [], "t_max_predict_ms": 1}
    assert client.post("/infill", json=warm).json()["content"] == ""
    assert client.post("/infill", json=warm | {"response_fields": [""]}).text == "{}"


def test_a_stop_of_the_request_ends_the_answer(client: httpx.Client, written: str) -> None:
    body = client.post("/infill", json=INFILL | {"stop": ["\n", "zzz"], "n_indent": 0}).json()
    assert body["content"] == written.partition("\n")[0]
    assert (body["stop_type"], body["stopping_word"]) == ("word", "\n")


def test_time_is_up_only_after_a_line(client: httpx.Client, written: str) -> None:
    body = client.post("/infill", json=INFILL | {"t_max_predict_ms": 0.001, "n_indent": 0}).json()
    assert body["content"].count("\n") == 1 and body["content"].endswith("\n")
    assert written.startswith(body["content"])
    assert body["stop_type"] == "limit"


def test_infill_can_be_streamed(client: httpx.Client, written: str) -> None:
    parts = [
        json.loads(event) for event in events(client.post("/infill", json=INFILL | {"stream": True, "n_indent": 0}))
    ]
    assert "".join(part["content"] for part in parts[:-1]) == written
    assert [part["stop"] for part in parts] == [False] * (len(parts) - 1) + [True]


def test_the_state_is_told_as_llama_cpp_does(client: httpx.Client, served: Served) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    props = client.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 1024
    assert (props["total_slots"], props["model_path"], props["chat_template"]) == (1, "blocklm:house", "")


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": BEFORE, "suffix": AFTER},
        {"prompt": f"# language: python\n# indentation: use 4 spaces for a tab\n{BEFORE}", "suffix": AFTER},
        {"prompt": f"<fim_prefix>{BEFORE}<fim_suffix>{AFTER}<fim_middle>"},
        {"prompt": f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{AFTER}<|fim_middle|>", "suffix": None},
        {"prompt": [f"<PRE> {BEFORE} <SUF>{AFTER} <MID>"], "model": "blocklm:house", "user": {"x": 1}},
    ],
    ids=["suffix", "minuet", "starcoder", "qwen", "code-llama"],
)
def test_a_gap_is_filled_in_whatever_form_it_is_asked(
    client: httpx.Client, written: str, asked: dict[str, Any]
) -> None:
    body = client.post("/v1/completions", json=asked | {"max_tokens": 24}).json()
    (choice,) = body["choices"]
    assert (choice["text"], choice["index"], choice["logprobs"]) == (written, 0, None)
    assert body["object"] == "text_completion"
    assert body["id"].startswith("cmpl-") and isinstance(body["created"], int) and body["model"] == "blocklm:house"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_prompt_without_a_gap_is_continued(client: httpx.Client, taught: Path, opened: Open) -> None:
    assistant = Assistant(opened(taught), Decoding(24))
    (output,) = assistant.answers([assistant.prompt_builder.text("def step_")])
    body = client.post("/v1/completions", json={"prompt": "def step_", "max_tokens": 24}).json()
    assert body["choices"][0]["text"] == output.text
    assert body["choices"][0]["finish_reason"] == ("stop" if output.ended else "length")
    short = client.post("/v1/completions", json={"prompt": "def step_", "max_tokens": 2}).json()
    assert (short["choices"][0]["finish_reason"], short["usage"]["completion_tokens"]) == ("length", 2)


def test_the_openai_client_gets_its_answer_whole_and_streamed(client: httpx.Client, written: str) -> None:
    own = OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0)
    asked: dict[str, Any] = {"model": "blocklm:house", "prompt": BEFORE, "suffix": AFTER, "max_tokens": 24}
    assert [model.id for model in own.models.list()] == ["blocklm:house"]
    assert own.completions.create(**asked).choices[0].text == written
    parts = list(own.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].text for part in parts[:-1]) == written
    assert len([part for part in parts if part.choices and part.choices[0].text]) > 2
    assert parts[-2].choices[0].finish_reason in ("stop", "length")
    assert parts[-1].usage is not None and parts[-1].usage.completion_tokens > 3


def test_a_stream_ends_with_done(client: httpx.Client) -> None:
    asked = {"prompt": BEFORE, "suffix": AFTER, "max_tokens": 4, "stream": True}
    found = events(client.post("/v1/completions", json=asked))
    assert found[-1] == "[DONE]"
    assert " " not in found[0].replace("lantern, ", "").partition('"text"')[0]


def test_a_next_edit_is_answered_in_the_form_of_sweep(client: httpx.Client, taught: Path, opened: Open) -> None:
    """The line feed at its end is the client's own."""
    window = "LAMPS = [\n]\n"
    prompt = (
        f"<|file_sep|>original/src/lamps.py\n{window}<|file_sep|>current/src/lamps.py\n{window}"
        "<|file_sep|>updated/src/lamps.py\n"
    )
    assistant = Assistant(opened(taught), Decoding(200))
    (output,) = assistant.answers([assistant.prompt_builder.next_edit(window, "src/lamps.py", None, [])])
    body = client.post("/v1/completions", json={"prompt": prompt, "max_tokens": 200}).json()
    assert body["choices"][0]["text"] == output.text.removesuffix("\n")
    assert output.text.startswith("LAMPS = [\n")


def test_chat_without_a_template_is_not_supported(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "hi"}]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (501, "not_supported_error")


def test_chat_is_worded_with_the_template_of_the_base(
    client: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = (
        "{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ message.content }}{% endfor %}"
    )
    monkeypatch.setattr(served.runs[0].prompts.run.tokenizer, "chat_template", template)
    plain = client.post("/v1/completions", json={"prompt": "def step_", "max_tokens": 12}).json()["choices"][0]["text"]
    own = OpenAI(base_url=f"{client.base_url}/v1", api_key="none", max_retries=0)
    asked: dict[str, Any] = {"model": "blocklm:house", "max_tokens": 12}
    asked["messages"] = [
        {"role": "user", "content": [{"type": "text", "text": "def "}]},
        {"role": "user", "content": "step_"},
    ]
    assert own.chat.completions.create(**asked).choices[0].message.content == plain
    parts = list(own.chat.completions.create(**asked, stream=True))
    assert "".join(part.choices[0].delta.content or "" for part in parts) == plain
    assert parts[0].choices[0].delta.role == "assistant"
    refused = client.post("/v1/chat/completions", json={"messages": [{"role": "system", "content": "x"}]})
    assert (refused.status_code, refused.json()["error"]["message"][-9:]) == (400, "no system")

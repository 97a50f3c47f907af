"""Continues prompts on another server: llama.cpp's, or one that speaks OpenAI's protocol, such as vLLM.

It is sent token ids, so that a prompt there is to the token what it is here: the server must have the run's model, such
as its exported GGUF file.
"""

import json
from collections.abc import Generator, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from transformers import PreTrainedTokenizerBase

from blocklm.errors import UserError
from blocklm.models.tokenization.token_healing import HealedPrompt, healing_of
from blocklm.serving.engines.answer_reader import AnswerReader
from blocklm.serving.engines.growing import Growing, Listener
from blocklm.serving.question import Answer, Limits
from blocklm.serving.refused import Refused

SECONDS = 60  # without a byte from the server
MOST_STOPS = 4  # of OpenAI's protocol; all stops are looked for here too
FAILURES = (OSError, HTTPException, ValueError, KeyError, TypeError)


class RemoteEngine:
    """Another server that continues prompts.

    Args:
        url: its address, with the path before `/v1` if there is one.
        tokenizer: tokenizer of the run.

    Raises:
        UserError: the server does not answer as one of the two.
    """

    def __init__(self, url: str, tokenizer: PreTrainedTokenizerBase) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"`--engine_url` {url} is no address", "give one such as `http://127.0.0.1:8080`")
        self._url, self._path, self._tokenizer = url, parts.path.rstrip("/").removesuffix("/v1"), tokenizer
        self._healing = healing_of(tokenizer)
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._place = (parts.hostname, parts.port)
        try:
            self._model = str(self._get("/v1/models")["data"][0]["id"])
            props = self._get("/props")
        except FAILURES as error:
            raise UserError(
                f"`--engine_url` {url} lists no models: {error}", "start llama-server or vLLM there first"
            ) from None
        self._is_llama_cpp = "default_generation_settings" in props

    def answer(self, ids: Sequence[int], limits: Limits, adapter: str, listener: Listener) -> Answer:
        """Continue a prompt; `adapter` is ignored, because the server has one model. Otherwise as `LocalEngine`."""
        # OpenAI's protocol has no way to hold an answer to a beginning.
        prompt = self._healing.heal(ids) if limits.heals and self._is_llama_cpp else HealedPrompt(list(ids))
        # Not `prompt.text`: at the beginning of a text SentencePiece drops the space of a token, which is one here.
        beginning = self._text(ids)[len(self._text(prompt.ids)) :]
        growing = Growing(AnswerReader.of(self._tokenizer, frozenset(), limits), limits, listener)
        text, usage = "", {"read": len(ids), "written": 0}
        try:
            with closing(self._pieces(prompt, beginning, limits, usage)) as pieces:
                for piece, ended in pieces:
                    text += piece
                    if growing.grow(growing.reader.reading_of(text[len(beginning) :], ended)):
                        break
        except FAILURES as error:
            raise Refused(503, f"{self._url} does not continue prompts: {error}") from error
        return growing.finish(len(ids), usage["read"], max(0, usage["written"] - prompt.tokens))

    def _pieces(
        self, prompt: HealedPrompt, beginning: str, limits: Limits, usage: dict[str, int]
    ) -> Generator[tuple[str, bool], None, None]:
        """Yield each part of an answer, and whether the model ended it there; closing it cancels the answer."""
        decoding = limits.decoding
        body: dict[str, Any] = {
            "prompt": prompt.ids,
            "stream": True,
            "temperature": decoding.temperature,
            "seed": decoding.seed % (1 << 31),
            "stop": [stop for stop in decoding.stops if stop not in beginning][:MOST_STOPS],
        }
        body |= {"top_p": decoding.top_p} if decoding.temperature else {}
        if self._is_llama_cpp:
            body |= {
                "n_predict": decoding.max_new_tokens + prompt.tokens,
                "cache_prompt": True,
                "top_k": decoding.top_k,
            }
            body |= {"grammar": beginning_with(beginning)} if beginning else {}
        else:
            body |= {"max_tokens": decoding.max_new_tokens, "model": self._model}
        with closing(self._kind(*self._place, timeout=SECONDS)) as connection:
            path = "/completion" if self._is_llama_cpp else "/v1/completions"
            connection.request("POST", self._path + path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            while line := answer.readline():
                if line.startswith(b"data: ") and line.strip() != b"data: [DONE]":
                    event = json.loads(line.removeprefix(b"data: "))
                    usage["written"] += 1
                    yield self._llama_cpp(event, usage) if self._is_llama_cpp else self._openai(event)

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _llama_cpp(self, event: dict[str, Any], usage: dict[str, int]) -> tuple[str, bool]:
        if event.get("stop"):
            usage |= {
                "read": int(event["timings"]["prompt_n"]),
                "written": int(event["tokens_predicted"]),
            }
        return str(event["content"]), event.get("stop_type") == "eos"

    def _openai(self, event: dict[str, Any]) -> tuple[str, bool]:
        if not event["choices"]:
            return "", False
        (choice,) = event["choices"]
        return str(choice["text"]), choice["finish_reason"] == "stop"

    def _get(self, path: str) -> dict[str, Any]:
        """Get an object; an empty one if there is none."""
        with closing(self._kind(*self._place, timeout=SECONDS)) as connection:
            connection.request("GET", self._path + path)
            answer = connection.getresponse()
            return dict(json.loads(answer.read())) if answer.status == 200 else {}


def beginning_with(text: str) -> str:
    """Write llama.cpp's grammar of the answers that begin with a text."""
    return f"root ::= {json.dumps(text, ensure_ascii=False)} [^\\x00]*"

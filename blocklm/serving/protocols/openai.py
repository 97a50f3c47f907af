"""OpenAI's `/v1/completions` and `/v1/chat/completions`: Zed, Continue, minuet, cursortab and `openai` ask in them.

A `suffix` asks for the text between. Without one, a prompt may mark the gap itself with the tokens of any family, or
ask for a next edit in the form of Sweep's models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blocklm.serving.protocols.fields import Fields
from blocklm.serving.protocols.fim_prompt import find_gap, without_hints
from blocklm.serving.protocols.sampling import decoding_of
from blocklm.serving.protocols.sweep_prompt import find_edit
from blocklm.serving.question import Answer, Chat, Continuation, Gap, Limits, NextEdit, Question
from blocklm.serving.refused import Refused

MAX_MESSAGES = 100
ROLES = ("system", "user", "assistant", "developer")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request for a completion.

    Attributes:
        question: what is asked.
        stream: whether the answer is sent as it grows.
        usage: whether a stream ends with the numbers of tokens.
        chat: whether it asks for the message of a conversation.
    """

    question: Question
    stream: bool
    usage: bool
    chat: bool = False


def parse_completion(fields: Fields) -> CompletionRequest:
    """Read a request to `/v1/completions`.

    Raises:
        Refused: a field has the wrong type, or there is not exactly one prompt.
    """
    prompts = fields.texts("prompt")
    if len(prompts) != 1:
        raise Refused(400, "`prompt` must be one string")
    return _request(fields, _asked(prompts[0], fields.text("suffix")), "max_tokens", chat=False)


def parse_chat(fields: Fields) -> CompletionRequest:
    """Read a request to `/v1/chat/completions`.

    Raises:
        Refused: a field has the wrong type, or there are no messages.
    """
    messages = [_message(message) for message in fields.objects("messages")]
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise Refused(400, f"`messages` must have 1 to {MAX_MESSAGES} messages")
    newer = "max_completion_tokens"
    return _request(fields, Chat(tuple(messages)), newer if newer in fields.values else "max_tokens", chat=True)


def _asked(prompt: str, suffix: str | None) -> Gap | NextEdit | Continuation:
    edit = find_edit(prompt)
    if edit is not None:
        return edit
    gap = find_gap(prompt) if not suffix else None
    if gap is not None:
        return Gap(without_hints(gap.before), gap.after, gap.path, gap.pieces)
    return Continuation(prompt) if suffix is None else Gap(without_hints(prompt), suffix)


def _message(message: Fields) -> dict[str, str]:
    role, content = message.text("role"), message.values.get("content")
    if isinstance(content, list):  # parts, of which the texts are read
        content = "".join(part.text("text") or "" for part in message.objects("content"))
    if role not in ROLES or not isinstance(content, str):
        raise Refused(400, f"a message has a `role` of {', '.join(ROLES)} and a `content`")
    return {"role": role, "content": Fields({"content": content}).text("content") or ""}


def _request(fields: Fields, asked: Any, count: str, chat: bool) -> CompletionRequest:
    options = fields.values.get("stream_options")
    usage = Fields(options).flag("include_usage") if isinstance(options, dict) else False
    # Zed adds the line feed at the end of a window, and takes one in the answer for an edit.
    limits = Limits(decoding_of(fields, count), open_end=isinstance(asked, NextEdit))
    question = Question(asked, limits, fields.text("model") or "")
    return CompletionRequest(question, fields.flag("stream"), usage, chat)


@dataclass(frozen=True, slots=True)
class Shape:
    """Shapes the answers to one request.

    Attributes:
        name: id of the answer.
        created: seconds since 1970.
        model: name of the model.
        chat: whether the answer is the message of a conversation.
    """

    name: str
    created: int
    model: str
    chat: bool = False

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Shape an answer that is sent at once."""
        end = _finish_reason(answer)
        said: dict[str, Any] = {"text": answer.text, "logprobs": None}
        if self.chat:
            said = {"message": {"role": "assistant", "content": answer.text}, "logprobs": None}
        choice = {"index": 0, **said, "finish_reason": end}
        return self._body("", [choice]) | {"usage": usage_of(answer)}

    def piece(self, text: str, first: bool) -> dict[str, Any]:
        """Shape a part of an answer."""
        return self._body(".chunk", [self._part(text, None, first)])

    def last(self, answer: Answer) -> dict[str, Any]:
        """Shape the end of an answer that was sent in parts."""
        return self._body(".chunk", [self._part("", _finish_reason(answer), False)])

    def usage(self, answer: Answer) -> dict[str, Any]:
        """Shape the numbers of tokens, which follow the end where the request asks for them."""
        return self._body(".chunk", []) | {"usage": usage_of(answer)}

    def _part(self, text: str, end: str | None, first: bool) -> dict[str, Any]:
        if not self.chat:
            return {"index": 0, "text": text, "logprobs": None, "finish_reason": end}
        delta = ({"role": "assistant"} if first else {}) | ({"content": text} if text or first else {})
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}

    def _body(self, part: str, choices: list[Mapping[str, Any]]) -> dict[str, Any]:
        kind = f"chat.completion{part}" if self.chat else "text_completion"
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model, "choices": choices}


def usage_of(answer: Answer) -> dict[str, int]:
    """Count the tokens of an answer and its prompt."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
    }


def models_body(names: list[str], created: int) -> dict[str, Any]:
    """Shape the list of models."""
    data = [{"id": name, "object": "model", "created": created, "owned_by": "blocklm"} for name in names]
    return {"object": "list", "data": data}


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.stopped_by == "limit" else "stop"

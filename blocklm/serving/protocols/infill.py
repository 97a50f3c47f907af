"""llama.cpp's `/infill`: llama.vim, llama.vscode and llama.qtcreator ask in it.

llama.vim reads answers with patterns, so the JSON must be compact, and where `response_fields` names the fields that
are wanted, nested ones are flat keys with a slash.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from blocklm.assistant.prompts import UNNAMED
from blocklm.corpus.places.place import FilePiece
from blocklm.serving.protocols.fields import Fields
from blocklm.serving.protocols.sampling import decoding_of
from blocklm.serving.question import Answer, Gap, Limits, Question
from blocklm.serving.refused import Refused

PIECE_LINES = 20  # as many as the pieces of our own search have; a larger one is rarely read, as it must fit whole


@dataclass(frozen=True, slots=True)
class InfillRequest:
    """A request to `/infill`.

    Attributes:
        question: what is asked.
        wanted: names of the fields of the answer; None for all.
        stream: whether the answer is sent as it grows.
    """

    question: Question
    wanted: tuple[str, ...] | None
    stream: bool

    @property
    def only_warms(self) -> bool:
        """Whether it asks for no text: the client wants its context read in advance, and reads no answer."""
        return self.question.limits.decoding.max_new_tokens == 0


def parse(fields: Fields) -> InfillRequest:
    """Read a request.

    Raises:
        Refused: a field has the wrong type, or there is no text.
    """
    before, after = fields.text("input_prefix"), fields.text("input_suffix")
    if before is None and after is None:
        raise Refused(400, "`input_prefix` and `input_suffix` are missing")
    pieces = [piece for extra in fields.objects("input_extra") for piece in _pieces(extra)]
    # The field `prompt` continues the prefix: it holds the line of the cursor up to the cursor.
    gap = Gap((before or "") + (fields.text("prompt") or ""), after or "", pieces=tuple(pieces))
    milliseconds = fields.number("t_max_predict_ms", 0)
    limits = Limits(decoding_of(fields, "n_predict"), milliseconds or None, max(0, fields.whole("n_indent", 0)))
    wanted = None if fields.values.get("response_fields") is None else fields.texts("response_fields")
    return InfillRequest(Question(gap, limits, fields.text("model") or ""), wanted, fields.flag("stream"))


def _pieces(extra: Fields) -> Iterator[FilePiece]:
    path, text = extra.text("filename") or UNNAMED, extra.text("text") or ""
    lines = text.splitlines(keepends=True)
    for start in range(0, len(lines), PIECE_LINES):
        piece = "".join(lines[start : start + PIECE_LINES])
        if piece.strip():
            yield FilePiece(path, piece if piece.endswith("\n") else f"{piece}\n")


def answer_body(answer: Answer, request: InfillRequest, model: str) -> dict[str, Any]:
    """Shape an answer, with the fields that the request wants."""
    body: dict[str, Any] = {
        "index": 0,
        "content": answer.text,
        "tokens": [],
        "id_slot": 0,
        "stop": True,
        "model": model,
        "tokens_predicted": answer.tokens,
        "tokens_evaluated": answer.prompt_tokens,
        "tokens_cached": answer.prompt_tokens + max(0, answer.tokens - 1),
        "has_new_line": "\n" in answer.text,
        "truncated": answer.truncated,
        "stop_type": answer.stopped_by,
        "stopping_word": answer.word,
        "timings": {
            "cache_n": answer.prompt_tokens - answer.read_tokens,
            **_timings("prompt", answer.read_tokens, answer.prompt_ms),
            **_timings("predicted", answer.tokens, answer.answer_ms),
        },
    }
    if request.wanted is None:
        return body
    found = ((name, _find(body, name)) for name in request.wanted)
    return {name: value for name, value in found if value is not None}


def piece_body(piece: str) -> dict[str, Any]:
    """Shape a part of an answer that is sent as it grows."""
    return {"index": 0, "content": piece, "tokens": [], "stop": False, "id_slot": 0}


def _timings(name: str, tokens: int, milliseconds: float) -> dict[str, float]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": round(milliseconds, 3),
        f"{name}_per_token_ms": round(milliseconds / tokens, 3) if tokens else 0.0,
        f"{name}_per_second": round(1000 * tokens / milliseconds, 3) if milliseconds else 0.0,
    }


def _find(body: Mapping[str, Any], name: str) -> Any:
    """Return the value at a path such as `timings/prompt_n`; None if there is none."""
    value: Any = body
    for part in name.split("/"):
        value = value.get(part) if isinstance(value, dict) else None
    return value

"""What a request asks, as values that no longer depend on its protocol."""

from dataclasses import dataclass

from blocklm.corpus.places.place import FilePiece, RecentEdit
from blocklm.models.generation.decoding import Decoding


@dataclass(frozen=True, slots=True)
class Gap:
    """Asks for the text at a cursor.

    Attributes:
        before: text before the cursor.
        after: text after it.
        path: path of the file, if the client tells it.
        pieces: pieces of other files that the client shows, the nearest last.
    """

    before: str
    after: str
    path: str | None = None
    pieces: tuple[FilePiece, ...] = ()


@dataclass(frozen=True, slots=True)
class NextEdit:
    """Asks for some lines as they are after the next edit.

    Attributes:
        path: path of the file.
        window: the lines.
        edits: recent edits, the nearest last.
        pieces: pieces of other files that the client shows, the nearest last.
    """

    path: str
    window: str
    edits: tuple[RecentEdit, ...] = ()
    pieces: tuple[FilePiece, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """Asks for the continuation of a text."""

    text: str


@dataclass(frozen=True, slots=True)
class Chat:
    """Asks for the next message of a conversation, whose messages have a role and a content."""

    messages: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer ends, and how its tokens are chosen.

    Attributes:
        decoding: choice of tokens, number of tokens, and texts that end the answer.
        milliseconds: time after the first token, after which the answer ends with its line; None for no limit.
        indentation: a later line that is indented less ends the answer and is no part of it.
        open_end: whether the line feed at the end of the answer is left out.
        min_probability: an answer whose first line the model finds less likely is left out altogether.
        heals: whether the answer may begin within a token.
    """

    decoding: Decoding
    milliseconds: float | None = None
    indentation: int = 0
    open_end: bool = False
    min_probability: float = 0.0
    heals: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A request: what is asked, of which model, and the limits of the answer.

    Attributes:
        asked: what is asked.
        limits: limits of the answer.
        model: name of the model; empty for the first.
    """

    asked: Gap | NextEdit | Continuation | Chat
    limits: Limits
    model: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it cost.

    Attributes:
        text: the text, without what ended it.
        stopped_by: `eos` where the model ended it, `word` for one of the request's stops, `limit` for any other limit.
        word: the stop that ended it.
        prompt_tokens: tokens of the prompt.
        read_tokens: those of them that the model had to read; the others it had read for an earlier prompt.
        tokens: tokens that the model wrote.
        prompt_ms: milliseconds until the first token.
        answer_ms: milliseconds from there to the end.
        truncated: whether the prompt lost text that did not fit.
        probability: that of its first line, by the model itself; 1 where an engine does not tell it.
    """

    text: str
    stopped_by: str = "limit"
    word: str = ""
    prompt_tokens: int = 0
    read_tokens: int = 0
    tokens: int = 0
    prompt_ms: float = 0.0
    answer_ms: float = 0.0
    truncated: bool = False
    probability: float = 1.0

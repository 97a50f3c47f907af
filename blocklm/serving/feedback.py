"""Finds out from an editor's next requests whether a shown text was kept, and counts it; no code is stored.

No protocol of completions reports what became of a text. But the editor's next request has the text before the cursor,
which goes on from the place of the earlier one with what was kept of it, or with something else. Typing the same by
hand looks the same.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path

from blocklm.files import json_line
from blocklm.serving.question import Answer

TAIL = 200  # characters before a cursor by which its place is found again
SHORTEST_TAIL = 8  # fewer stand at many places
PENDING = 16  # texts whose outcome may still show

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A text that an editor got.

    Attributes:
        tail: last characters before its cursor.
        text: the text.
        probability: that of its first line, by the model.
    """

    tail: str
    text: str
    probability: float


class Feedback:
    """Follows the texts that a run's editors got, and appends their outcomes to a file; used by one thread.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: list[Shown] = []

    def read(self, before: str) -> None:
        """Take the text before the cursor of a request, which may show what was kept of earlier texts."""
        left = []
        for shown in self._pending:
            typed = typed_since(shown.tail, before)
            kept = None if typed is None else kept_of(shown.text, typed)
            if kept is not None:
                self._write(shown, kept)
            elif typed != "" and not (typed and _goes_on(shown.text, typed)):
                left.append(shown)  # an answer to this request replaces the others
        self._pending = left

    def show(self, before: str, answer: Answer) -> None:
        """Remember a text that an editor got, and the place of its cursor."""
        tail = before[-TAIL:]
        if not answer.text.strip() or len(tail.strip()) < SHORTEST_TAIL:
            return
        self._pending.append(Shown(tail, answer.text, answer.probability))
        for shown in self._pending[:-PENDING]:
            self._write(shown, None)
        self._pending = self._pending[-PENDING:]

    def close(self) -> None:
        """Record that the outcomes of the remaining texts are not known."""
        for shown in self._pending:
            self._write(shown, None)
        self._pending = []

    def _write(self, shown: Shown, kept: int | None) -> None:
        row = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "characters": len(shown.text.rstrip()),
            "first_line": _first_line_end(shown.text),
            "kept": kept,
            "probability": round(shown.probability, 4),
        }
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json_line(row))
        except OSError as error:  # an answer is worth more than its count
            logger.warning("%s: a text is not counted: %s", self._path, error)


def typed_since(tail: str, before: str) -> str | None:
    """Return the text between an earlier cursor and the present one; None if the earlier place is not there."""
    place = before.rfind(tail)
    return None if place < 0 else before[place + len(tail) :]


def kept_of(text: str, typed: str) -> int | None:
    """Count the characters of a text that what was typed begins with; None if that is not decided yet.

    A request right behind the whole text decides nothing: llama.vim asks there in advance while it shows the text.
    """
    text = text.rstrip()
    if text.startswith(typed.rstrip()):
        return None
    same = takewhile(lambda pair: pair[0] == pair[1], zip(text, typed, strict=False))
    return sum(1 for _ in same)


def _goes_on(text: str, typed: str) -> bool:
    """Whether somebody is typing a text that is shown, so that the next answer shows the rest of it."""
    return text.startswith(typed) and typed.rstrip() != text.rstrip()


def _first_line_end(text: str) -> int:
    """Return where the first line of a text ends that is not blank."""
    blank = len(text) - len(text.lstrip("\n"))
    return blank + len(text[blank:].partition("\n")[0].rstrip())

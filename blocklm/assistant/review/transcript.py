"""Stores the conversations of a run, one file per change: what it is about, the past changes, and each turn.

The files are JSON lines under `RUN_DIR/reviews`. A file is replaced after each turn, so it is complete up to the last
answer at any time. Secrets are redacted before they are written.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blocklm.assistant.review.chat_format import Turn
from blocklm.assistant.review.past_changes import PastChange, past_change
from blocklm.errors import UserError
from blocklm.files import read_json_lines, write_json_lines
from blocklm.mining.redaction import redact

SCHEMA = 1


@dataclass
class Transcript:
    """A conversation and the file that stores it.

    Args:
        path: path of the file.
        about: name and digest of the change, and name of the model.
        past: past changes near to it, as found when the conversation began.
        turns: turns so far.
    """

    path: Path
    about: dict[str, str]
    past: Sequence[PastChange]
    turns: list[Turn]

    def add(self, turn: Turn) -> None:
        """Append a turn, without secrets, and write the file."""
        question, answer = (redacted.text for redacted in redact([turn.question, turn.answer]))
        self.turns.append(Turn(question, answer, turn.ended))
        rows = [{"schema": SCHEMA, **self.about}, {"past": list(map(asdict, self.past))}, *map(asdict, self.turns)]
        write_json_lines(self.path, rows)


def open_transcript(
    path: Path, about: dict[str, str], past: Callable[[], Sequence[PastChange]], restart: bool = False
) -> Transcript:
    """Continue a stored conversation, or begin one; nothing is written before its first turn.

    Args:
        path: path of the file.
        about: name and digest of the change, and name of the model.
        past: function that finds the past changes near to it, called if the conversation begins.
        restart: whether a stored conversation is replaced; False by default.

    Raises:
        UserError: the file is a conversation about something else, or no conversation.
    """
    if restart or not path.exists():
        return Transcript(path, about, past(), [])
    stored_about, transcript = _read(path)
    for key, value in about.items():
        if stored_about.get(key) != value:
            raise UserError(
                f"`{path}` is a conversation about another {key}: {stored_about.get(key)!s:.40}, now {value:.40}",
                "give `--new` to replace it, or move the file away",
            )
    return transcript


def _read(path: Path) -> tuple[dict[str, Any], Transcript]:
    try:
        head, nearest, *turns = read_json_lines(path)
        about = {key: value for key, value in head.items() if key != "schema"}
        past = list(map(past_change, nearest["past"]))
        if head["schema"] == SCHEMA:
            return about, Transcript(path, about, past, [Turn(**turn) for turn in turns])
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise UserError(f"`{path}` is not a conversation of this version", "give `--new` to replace it")

"""The conversations of a run, one file for each change: what it is about, what was found in the past, and each turn.

JSON lines under `RUN_DIR/reviews`; a file is written whole after each turn, so that it is there up to the last answer at any
time. No secret is in it: what goes in was searched for them.
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
    """A conversation and where it is kept.

    Args:
        path: of its file.
        about: name and digest of the change, and who answers.
        past: changes near to it, as they were found when it began.
        turns: so far.
    """

    path: Path
    about: dict[str, str]
    past: Sequence[PastChange]
    turns: list[Turn]

    def add(self, turn: Turn) -> None:
        """Keep a turn."""
        question, answer = (found.text for found in redact([turn.question, turn.answer]))
        self.turns.append(Turn(question, answer, turn.ended))
        rows = [{"schema": SCHEMA, **self.about}, {"past": list(map(asdict, self.past))}, *map(asdict, self.turns)]
        write_json_lines(self.path, rows)


def open_transcript(
    path: Path, about: dict[str, str], past: Callable[[], Sequence[PastChange]], anew: bool = False
) -> Transcript:
    """Go on with a conversation, or begin one; nothing is written before its first turn.

    Args:
        path: of its file.
        about: name and digest of the change, and who answers.
        past: finds the changes near to it, for a conversation that begins.
        anew: to let go of one that is there.

    Raises:
        UserError: what is there is about something else, or no conversation.
    """
    if anew or not path.exists():
        return Transcript(path, about, past(), [])
    there, session = _read(path)
    for key, value in about.items():
        if there.get(key) != value:
            raise UserError(
                f"`{path}` is a conversation about another {key}: {there.get(key)!s:.40}, now {value:.40}",
                "`--new` begins anew and lets it go; or move the file away",
            )
    return session


def _read(path: Path) -> tuple[dict[str, Any], Transcript]:
    try:
        head, found, *turns = read_json_lines(path)
        about = {key: value for key, value in head.items() if key != "schema"}
        past = list(map(past_change, found["past"]))
        if head["schema"] == SCHEMA:
            return about, Transcript(path, about, past, [Turn(**turn) for turn in turns])
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise UserError(f"`{path}` is not a conversation of this version", "`--new` begins anew and lets it go")

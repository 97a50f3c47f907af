"""View `next_edit`: recent edits and some lines of a file give these lines as they are after the next edit.

Beside each third hunk a place is asked where the commit left everything as it was: a model that was only shown changes
changes something everywhere.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blocklm.corpus.places.file_state import FileState
from blocklm.corpus.views import HunkText, Sample, sample_id, text_after
from blocklm.corpus.windows import Line

NEXT_EDIT = "next_edit"
WINDOW_LINES = 21
MAX_CHANGED_LINES = 15  # before or after the edit; a larger one does not fit into a window
MAX_WINDOW_CHARS = 2000
QUIET_PART = 3  # one of so many hunks gets a place without a change: a quarter of the samples
QUIET_DISTANCE = (2, 30)  # lines between the hunk and such a place
CHANGE, QUIET = range(2)


def next_edits(hunk: HunkText, language: str | None) -> Iterator[Sample]:
    """Yield the sample of a hunk, and for some hunks that of a place without a change.

    The completion of the first holds the hunk alone, that of the second is empty: the lines around are added when the
    sample is read.
    """
    lines = changed_lines(hunk.marked)
    sides = [sum(mark != other for mark, _ in lines) for other in "+-"]
    if not any(mark == "+" and text.strip() for mark, text in lines) or max(sides) > MAX_CHANGED_LINES:
        return
    completion, added = text_after(lines)
    yield Sample(sample_id(hunk, NEXT_EDIT, CHANGE), NEXT_EDIT, "", (0, 0), completion, added, place=(CHANGE,))
    name = sample_id(hunk, NEXT_EDIT, QUIET)
    if int(name, 16) % QUIET_PART == 0:
        yield Sample(name, NEXT_EDIT, "", (0, 0), "", (), place=(QUIET,))


def changed_lines(hunk: list[Line]) -> list[Line]:
    """Return the lines of a hunk from the first that it changes to the last."""
    places = [place for place, (mark, _) in enumerate(hunk) if mark != " "]
    return hunk[places[0] : places[-1] + 1] if places else []


@dataclass(frozen=True, slots=True)
class EditWindow:
    """Lines of a file before and after the next edit.

    Attributes:
        before: the text of the lines.
        after: the text that they become; the same where nothing changes.
        added: start, end, start, end … in characters, of the added text in `after`.
    """

    before: str
    after: str
    added: tuple[int, ...]


def edit_window(state: FileState, chance: random.Random) -> EditWindow | None:
    """Put a window of about 21 lines around the change of a hunk; None if it is too large.

    The lines above the change are those after the commit, the lines below it those before: the edits above have been
    made, those below have not.
    """
    hunk = list(state.hunk)
    first = next(place for place, (mark, _) in enumerate(hunk) if mark != " ")
    change = changed_lines(hunk)
    above = [*state.above(WINDOW_LINES), *(text for _, text in hunk[:first])]
    below = [*(text for _, text in hunk[first + len(change) :]), *state.below(WINDOW_LINES)]
    free = max(0, WINDOW_LINES - sum(mark != "+" for mark, _ in change))
    shown_above = min(len(above), chance.randint(free // 4, free - free // 4))
    shown_below = min(len(below), free - shown_above)
    start = len(above) - shown_above
    window = [(" ", text) for text in above[start:]] + change + [(" ", text) for text in below[:shown_below]]
    before = "".join(f"{text}\n" for mark, text in window if mark != "+")
    after, added = text_after(window)
    if max(len(before), len(after)) > MAX_WINDOW_CHARS:
        return None
    return EditWindow(before, after, added)


def quiet_window(states: Sequence[FileState], number: int, chance: random.Random) -> EditWindow | None:
    """Put a window near a hunk where the commit changes nothing; None if there is no such place.

    Args:
        states: the hunks of the file.
        number: number of the hunk, whose change has been made.
        chance: chooses the place.
    """
    state = states[number]
    above = state.new[_end_of(states[number - 1]) if number else 0 : state.start]
    below = state.old[state.end : _start_of(states[number + 1]) if number + 1 < len(states) else None]
    above_first = chance.random() < 0.5
    distance = chance.randint(*QUIET_DISTANCE)
    places = [_far_lines(below, distance), _far_lines(above[::-1], distance)[::-1]]
    for lines in reversed(places) if above_first else places:
        text = "".join(f"{line}\n" for line in lines)
        if text.strip() and len(text) <= MAX_WINDOW_CHARS:
            return EditWindow(text, text, ())
    return None


def _far_lines(lines: Sequence[str], distance: int) -> Sequence[str]:
    """Return the lines of a window that begins `distance` lines away, or at once if there are too few lines."""
    skipped = distance if distance + WINDOW_LINES <= len(lines) else 0
    return lines[skipped : skipped + WINDOW_LINES]


def _end_of(state: FileState) -> int:
    """Return the number of lines of the new file up to the end of a hunk."""
    return state.start + sum(mark != "-" for mark, _ in state.hunk)


def _start_of(state: FileState) -> int:
    """Return the number of lines of the old file above a hunk."""
    return state.end - sum(mark != "+" for mark, _ in state.hunk)

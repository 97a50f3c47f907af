"""Dead-API trap: where a commit took a call of what it removed out of a line, does the model write it back?

The prompt is the hunk as the commit left it, up to the old line's place, and of that line what stood before the symbol. That is
asked where a line came into its place that begins alike, or where at least what stands above it stayed. To write the symbol is wrong: it stands nowhere in the repository any more.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.views import PREFIX_CHARS
from blocklm.corpus.windows import Line
from blocklm.evaluation.definitions import uses
from blocklm.evaluation.tasks.item import Prompts, TaskItem, item_id, text_of

DEAD_API = "dead_api"
# What stands before a name that is being defined: the fragment was too short for the grammar to know.
DEFINES = re.compile(
    r"\b(?:fn|def|class|struct|enum|union|trait|type|const|static|func|function|interface|let|var)\s+$"
)


def dead_api_items(commit: Sequence[AnnotatedHunk], prompts: Prompts, dead: frozenset[str]) -> Iterator[TaskItem]:
    """One item per removed line that used one of the dead symbols after something else.

    Args:
        commit: its hunks.
        prompts: the view `next_line` asks.
        dead: symbols that the commit removed, and that stand nowhere in its tree.
    """
    for lesson in commit if dead else ():
        lines = lesson.text.marked
        before = [at for at, (mark, _) in enumerate(lines) if mark != "+"]
        seen = set[tuple[int, str]]()
        for row, head in uses(text_of(lines[at] for at in before), lesson.language, dead):
            place = _place(lines, before[row], head)
            asks = head.strip() and not DEFINES.search(head) and not any(symbol in head for symbol in dead)
            if place is not None and asks and (place, head) not in seen:
                seen.add((place, head))
                yield _item(lesson, place, head, dead, prompts)


def _place(lines: Sequence[Line], removed: int, head: str) -> int | None:
    """The line that came into a removed line's place and begins alike, or where it stood if what is above it stayed."""
    start = removed - sum(1 for _ in takewhile(_changed, reversed(lines[:removed])))
    end = removed + sum(1 for _ in takewhile(_changed, lines[removed:]))
    return next((at for at in range(start, end) if _goes_on(lines[at], head)), start if start == removed else None)


def _changed(line: Line) -> bool:
    return line[0] != " "


def _goes_on(line: Line, head: str) -> bool:
    mark, text = line
    return mark == "+" and text.startswith(head)


def _item(lesson: AnnotatedHunk, place: int, head: str, dead: frozenset[str], prompts: Prompts) -> TaskItem:
    text = lesson.text
    above = text_of(line for line in text.marked[:place] if line[0] != "-")
    prefix = (above + head)[-PREFIX_CHARS:]
    prompt = prompts["next_line"].prompt("next_line", repo=text.repo, path=text.path, context=prefix)
    line = text.marked[place]
    return TaskItem(
        id=item_id(lesson, f"{DEAD_API}|{head}", place),
        task=DEAD_API,
        commit=text.commit,
        path=text.path,
        language=lesson.language,
        prompt=prompt.text,
        context=prompt.context,
        truth=f"{line[1][len(head) :]}\n" if _goes_on(line, head) else "",
        prefix=prefix,
        removed=dead,
    )

"""Task `dead_api`: a commit removed a symbol and its uses; does the model write the symbol again?

The prompt is the hunk as the commit left it, up to the place of a removed line, and the part of that line before the
symbol. It is asked if a line that starts alike replaced the removed line, or if the line above it did not change.
Writing the symbol is wrong, because it occurs nowhere in the repository any more.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile

from blocklm.corpus.places.place import Place
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.tree.constructs import uses
from blocklm.corpus.windows import Line
from blocklm.evaluation.tasks.item import PREFIX_CHARS, Prompts, TaskItem, item_id, text_of

DEAD_API = "dead_api"
# Text before a name that is being defined, in fragments that are too short for the grammar to tell.
DEFINES = re.compile(
    r"\b(?:fn|def|class|struct|enum|union|trait|type|const|static|func|function|interface|let|var)\s+$"
)


def dead_api_items(commit: Sequence[AnnotatedHunk], prompts: Prompts, dead: frozenset[str]) -> Iterator[TaskItem]:
    """Make an item of each removed line that used one of the dead symbols, but did not start with it.

    Args:
        commit: the commit's hunks.
        prompts: prompt family by view, of which that of `completion` is used.
        dead: symbols that the commit removed, and that occur nowhere in its tree.
    """
    for hunk in commit if dead else ():
        lines = hunk.text.marked
        before = [row for row, (mark, _) in enumerate(lines) if mark != "+"]
        seen = set[tuple[int, str]]()
        for row, head in uses(text_of(lines[row] for row in before), hunk.language, dead):
            place = _place(lines, before[row], head)
            usable = head.strip() and not DEFINES.search(head) and not any(symbol in head for symbol in dead)
            if place is not None and usable and (place, head) not in seen:
                seen.add((place, head))
                yield _item(hunk, place, head, dead, prompts)


def _place(lines: Sequence[Line], removed: int, head: str) -> int | None:
    """Find the row that replaced a removed line and starts alike, else the line's own row if the row above is kept."""
    start = removed - sum(1 for _ in takewhile(_changed, reversed(lines[:removed])))
    end = removed + sum(1 for _ in takewhile(_changed, lines[removed:]))
    fallback = start if start == removed else None
    return next((row for row in range(start, end) if _continues(lines[row], head)), fallback)


def _changed(line: Line) -> bool:
    return line[0] != " "


def _continues(line: Line, head: str) -> bool:
    mark, text = line
    return mark == "+" and text.startswith(head)


def _item(hunk: AnnotatedHunk, place: int, head: str, dead: frozenset[str], prompts: Prompts) -> TaskItem:
    text = hunk.text
    above = text_of(line for line in text.marked[:place] if line[0] != "-")
    prefix = (above + head)[-PREFIX_CHARS:]
    line = text.marked[place]
    return TaskItem(
        id=item_id(hunk, f"{DEAD_API}|{head}", place),
        task=DEAD_API,
        commit=text.commit,
        path=text.path,
        language=hunk.language,
        prompt=prompts["completion"].prompt_at("completion", Place(text.repo, text.path, prefix)),
        truth=f"{line[1][len(head) :]}\n" if _continues(line, head) else "",
        prefix=prefix,
        removed=dead,
    )

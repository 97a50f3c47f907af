"""Ripple edit: a commit makes the same change of some words in several lines; the first is shown, the others are asked for.

Both are shown as the edit view shows them, in windows that hold no other change, so that a window and the one before it are all
that it takes to know the answer.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.windows import Line
from blocklm.evaluation.tasks.item import Prompts, TaskItem, item_id, text_of

RIPPLE = "ripple_edit"
CONTEXT_LINES = 3
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
Substitution = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Place:
    """One line that is replaced by one: the unchanged lines around it, and both of its texts."""

    lesson: AnnotatedHunk
    row: int
    above: list[Line]
    below: list[Line]
    old: Line
    new: Line

    def window(self, line: Line) -> str:
        """The lines around with one of the two."""
        return text_of([*self.above, line, *self.below])


def ripple_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """One item per line, except the first, in which the same words become the same others."""
    groups: dict[Substitution, list[_Place]] = defaultdict(list)
    for lesson in commit:
        for place in _places(lesson):
            groups[substitution(place.old[1], place.new[1])].append(place)
    for (old, new), places in groups.items():
        if any(map(str.isidentifier, (*old, *new))):
            shown = {places[0].window(places[0].old)}
            for place in places[1:]:
                if place.window(place.old) not in shown:  # to copy what was shown is no question
                    shown.add(place.window(place.old))
                    yield _item(places[0], place, prompts)


def substitution(old: str, new: str) -> Substitution:
    """The tokens between what both lines begin with and what both end with: what went, and what came."""
    before, after = TOKEN.findall(old), TOKEN.findall(new)
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    rest = zip(reversed(before[start:]), reversed(after[start:]), strict=False)
    end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))
    return tuple(before[start : len(before) - end]), tuple(after[start : len(after) - end])


def _places(lesson: AnnotatedHunk) -> Iterator[_Place]:
    """The lines of a hunk that are replaced by one other line each."""
    lines = lesson.text.marked
    marks = "".join(mark for mark, _ in lines)
    for found in re.finditer(r"(?<![+-])-\+(?![+-])", marks):
        at = found.start()
        above = list(takewhile(_unchanged, reversed(lines[max(0, at - CONTEXT_LINES) : at])))[::-1]
        below = list(takewhile(_unchanged, lines[at + 2 : at + 2 + CONTEXT_LINES]))
        yield _Place(lesson, at, above, below, lines[at], lines[at + 1])


def _unchanged(line: Line) -> bool:
    return line[0] == " "


def _item(shown: _Place, asked: _Place, prompts: Prompts) -> TaskItem:
    first, second = (
        prompts["edit"].prompt(
            "edit",
            repo=place.lesson.text.repo,
            path=place.lesson.text.path,
            subject=place.lesson.text.subject,
            context=place.window(place.old),
        )
        for place in (shown, asked)
    )
    return TaskItem(
        id=item_id(asked.lesson, RIPPLE, asked.row),
        task=RIPPLE,
        commit=asked.lesson.text.commit,
        path=asked.lesson.text.path,
        language=asked.lesson.language,
        prompt=first.text + shown.window(shown.new) + second.text,
        context=(0, 0),
        truth=asked.window(asked.new),
        before=asked.window(asked.old),
    )

"""Task `ripple_edit`: a commit replaces the same words in several lines; the first line is shown, the others are asked.

Both have the form of the edit view, in windows without any other change, so that the shown window and the asked one are
enough to know the answer.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from blocklm.corpus.prompt_templates import Prompt
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.windows import Line
from blocklm.evaluation.tasks.item import Prompts, TaskItem, item_id, text_of

RIPPLE = "ripple_edit"
CONTEXT_LINES = 3
TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
Substitution = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Place:
    """A line that is replaced by one other line, its old and new text, and the unchanged lines around it."""

    hunk: AnnotatedHunk
    row: int
    above: list[Line]
    below: list[Line]
    old: Line
    new: Line

    def window(self, line: Line) -> str:
        """Return the lines around it with the old or the new line between them."""
        return text_of([*self.above, line, *self.below])


def ripple_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """Make an item of each line but the first in which the same words are replaced by the same words."""
    groups: dict[Substitution, list[_Place]] = defaultdict(list)
    for hunk in commit:
        for place in _places(hunk):
            groups[substitution(place.old[1], place.new[1])].append(place)
    for (old, new), places in groups.items():
        if any(map(str.isidentifier, (*old, *new))):
            shown = {places[0].window(places[0].old)}
            for place in places[1:]:
                if place.window(place.old) not in shown:  # else the answer could be copied
                    shown.add(place.window(place.old))
                    yield _item(places[0], place, prompts)


def substitution(old: str, new: str) -> Substitution:
    """Return the old and the new tokens between the common start and the common end of two lines."""
    before, after = TOKEN.findall(old), TOKEN.findall(new)
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False)))
    rest = zip(reversed(before[start:]), reversed(after[start:]), strict=False)
    end = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], rest))
    return tuple(before[start : len(before) - end]), tuple(after[start : len(after) - end])


def _places(hunk: AnnotatedHunk) -> Iterator[_Place]:
    """Yield the lines of a hunk that are each replaced by one other line."""
    lines = hunk.text.marked
    marks = "".join(mark for mark, _ in lines)
    for match in re.finditer(r"(?<![+-])-\+(?![+-])", marks):
        row = match.start()
        above = list(takewhile(_unchanged, reversed(lines[max(0, row - CONTEXT_LINES) : row])))[::-1]
        below = list(takewhile(_unchanged, lines[row + 2 : row + 2 + CONTEXT_LINES]))
        yield _Place(hunk, row, above, below, lines[row], lines[row + 1])


def _unchanged(line: Line) -> bool:
    return line[0] == " "


def _item(shown: _Place, asked: _Place, prompts: Prompts) -> TaskItem:
    first, second = (
        prompts["edit"].prompt(
            "edit",
            repo=place.hunk.text.repo,
            path=place.hunk.text.path,
            subject=place.hunk.text.subject,
            context=place.window(place.old),
        )
        for place in (shown, asked)
    )
    return TaskItem(
        id=item_id(asked.hunk, RIPPLE, asked.row),
        task=RIPPLE,
        commit=asked.hunk.text.commit,
        path=asked.hunk.text.path,
        language=asked.hunk.language,
        prompt=Prompt(first.text + shown.window(shown.new) + second.text, (0, 0)),
        truth=asked.window(asked.new),
        before=asked.window(asked.old),
    )

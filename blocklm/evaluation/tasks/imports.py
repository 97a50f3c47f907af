"""Wire it up: what a commit adds to a file gives the imports that it adds there.

A run of imports is a gap in its hunk. What needs them seldom stands beside them: it does in a third of the gaps of tokio and
the-block, and in two thirds when added lines of the rest of the file are shown before.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.views import LETTER, PREFIX_CHARS, SPAN_CHARS
from blocklm.corpus.windows import Line
from blocklm.evaluation.definitions import import_rows
from blocklm.evaluation.tasks.item import Prompts, TaskItem, after, text_of, to_fill

IMPORTS = "imports"


def import_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """One item per run of added import lines with something around it."""
    for _, of_file in groupby(commit, key=lambda lesson: lesson.text.path):
        hunks = [(lesson, after(lesson)) for lesson in of_file]
        found = [import_rows(text_of(lines), lesson.language) for lesson, lines in hunks]
        added = [
            line
            for (_, lines), imports in zip(hunks, found, strict=True)
            for row, line in enumerate(lines)
            if line[0] == "+" and row not in imports and LETTER.search(line[1])
        ]
        for (lesson, lines), imports in zip(hunks, found, strict=True):
            for start, end in _runs(lines, imports):
                around = text_of(lines[:start] + lines[end:])
                if LETTER.search(around) and len(text_of(lines[start:end])) <= SPAN_CHARS:
                    yield _item(lesson, start, end, added, prompts)


def _runs(lines: Sequence[Line], imports: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of added imports."""
    wanted = [mark == "+" and row in imports for row, (mark, _) in enumerate(lines)]
    for is_wanted, run in groupby(range(len(lines)), key=wanted.__getitem__):
        rows = list(run)
        if is_wanted:
            yield rows[0], rows[-1] + 1


def _item(lesson: AnnotatedHunk, start: int, end: int, added: Sequence[Line], prompts: Prompts) -> TaskItem:
    """The gap, and before it the first of what else is added to the file and not shown around it."""
    alone = to_fill(lesson, IMPORTS, start, end, prompts)
    around = alone.prefix + alone.suffix
    used = text_of(line for line in added if f"{line[1]}\n" not in around)[:PREFIX_CHARS]
    return to_fill(lesson, IMPORTS, start, end, prompts, given=(lesson.text.path, used)) if used else alone

"""Task `imports`: write the imports that a commit adds to a file, given the other lines that it adds there.

A run of imports is asked as a gap in its hunk. The hunk itself seldom shows the code that needs the imports: it does in
a third of the gaps of tokio and the-block, and in two thirds if the file's other added lines are shown before.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.tree.constructs import import_rows
from blocklm.corpus.views import LETTER
from blocklm.corpus.windows import Line
from blocklm.evaluation.tasks.item import MAX_CHARS, PREFIX_CHARS, Prompts, TaskItem, after, text_of, to_fill

IMPORTS = "imports"


def import_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """Make an item of each run of added import lines that has text around it."""
    for _, of_file in groupby(commit, key=lambda hunk: hunk.text.path):
        hunks = [(hunk, after(hunk)) for hunk in of_file]
        rows_of_imports = [import_rows(text_of(lines), hunk.language) for hunk, lines in hunks]
        added = [
            line
            for (_, lines), imports in zip(hunks, rows_of_imports, strict=True)
            for row, line in enumerate(lines)
            if line[0] == "+" and row not in imports and LETTER.search(line[1])
        ]
        for (hunk, lines), imports in zip(hunks, rows_of_imports, strict=True):
            for start, end in _runs(lines, imports):
                around = text_of(lines[:start] + lines[end:])
                if LETTER.search(around) and len(text_of(lines[start:end])) <= MAX_CHARS:
                    yield _item(hunk, start, end, added, prompts)


def _runs(lines: Sequence[Line], imports: frozenset[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of added imports."""
    wanted = [mark == "+" and row in imports for row, (mark, _) in enumerate(lines)]
    for is_wanted, run in groupby(range(len(lines)), key=wanted.__getitem__):
        rows = list(run)
        if is_wanted:
            yield rows[0], rows[-1] + 1


def _item(hunk: AnnotatedHunk, start: int, end: int, added: Sequence[Line], prompts: Prompts) -> TaskItem:
    """Make the item of a gap, with the file's other added lines before it, as far as they are not around it."""
    alone = to_fill(hunk, IMPORTS, start, end, prompts)
    around = alone.prefix + alone.suffix
    used = text_of(line for line in added if f"{line[1]}\n" not in around)[:PREFIX_CHARS]
    return to_fill(hunk, IMPORTS, start, end, prompts, given=(hunk.text.path, used)) if used else alone

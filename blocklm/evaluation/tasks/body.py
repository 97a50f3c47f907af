"""Task `body`: write the body of a new function, given its signature and documentation.

All lines of the function are new; tests have a task of their own. The body is asked as a gap to fill: the lines after
the function are in the prompt too, so that the answer ends where the body does.
"""

from collections.abc import Iterator, Sequence

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.tree.constructs import Function, functions
from blocklm.corpus.views import LETTER
from blocklm.evaluation.tasks.item import MAX_CHARS, MIN_CHARS, Prompts, TaskItem, after, text_of, to_fill

BODY = "body"


def body_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """Make an item of each new function that is not a test."""
    for hunk in commit:
        for function in new_functions(hunk):
            if not function.is_test:
                yield to_fill(hunk, BODY, function.body, function.body_end, prompts)


def new_functions(hunk: AnnotatedHunk) -> Iterator[Function]:
    """Find a hunk's outermost functions, with tests, that are entirely added and whose body has a suitable length."""
    lines = after(hunk)
    last = 0
    for function in functions(text_of(lines), hunk.language):
        body = text_of(lines[function.body : function.body_end])
        askable = len(body.strip()) >= MIN_CHARS and len(body) <= MAX_CHARS and LETTER.search(body)
        new = all(mark == "+" for mark, _ in lines[function.start : function.end])
        if new and function.start >= last:
            last = function.end
            if askable:
                yield function

"""Write the body: a new function's signature and what documents it give what it does.

The function is new as a whole; tests have a task of their own. It is asked as a gap is: what follows the function in its hunk
is shown too, so that the answer ends where the body does.
"""

from collections.abc import Iterator, Sequence

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.views import LETTER, MIN_SPAN_CHARS, SPAN_CHARS
from blocklm.evaluation.definitions import Function, functions
from blocklm.evaluation.tasks.item import Prompts, TaskItem, after, text_of, to_fill

BODY = "body"


def body_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """One item per new function that is no test."""
    for lesson in commit:
        for function in new_functions(lesson):
            if not function.is_test:
                yield to_fill(lesson, BODY, function.body, function.body_end, prompts)


def new_functions(lesson: AnnotatedHunk) -> Iterator[Function]:
    """The outermost functions of a hunk whose every line is added and whose body can be asked for, tests among them."""
    lines = after(lesson)
    last = 0
    for function in functions(text_of(lines), lesson.language):
        body = text_of(lines[function.body : function.body_end])
        askable = len(body.strip()) >= MIN_SPAN_CHARS and len(body) <= SPAN_CHARS and LETTER.search(body)
        new = all(mark == "+" for mark, _ in lines[function.start : function.end])
        if new and function.start >= last:
            last = function.end
            if askable:
                yield function

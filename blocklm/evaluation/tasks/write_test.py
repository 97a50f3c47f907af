"""Write the test: a test's name, and what the same commit changed in the code, give what the test does.

Of the code that piece is shown which has most to do with the test's file and first line; the body has no say in it.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import enry

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.views import PREFIX_CHARS
from blocklm.evaluation.tasks.body import new_functions
from blocklm.evaluation.tasks.item import Prompts, TaskItem, after, text_of, to_fill
from blocklm.retrieval.bm25 import terms

TEST = "test"
TEST_FOLDERS = frozenset({"test", "tests", "__tests__", "testing"})


def test_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """One item per new test of a commit that also adds to code which is no test."""
    code, tests = list[tuple[str, str]](), list[tuple[AnnotatedHunk, int, int, str]]()
    for lesson in commit:
        lines = after(lesson)
        found = [function for function in new_functions(lesson) if function.is_test]
        for test in found:
            head = text_of(lines[test.start : test.body])
            tests.append((lesson, test.body, test.body_end, f"{lesson.text.path}\n{head}"))
        if not found and not is_test_path(lesson.text.path):
            code.append((lesson.text.path, text_of(lines)[:PREFIX_CHARS]))
    if code:
        known = [frozenset(terms(f"{path}\n{text}")) for path, text in code]
        for lesson, start, end, asked in tests:
            words = frozenset(terms(asked))
            nearest = max(range(len(code)), key=lambda at: (len(words & known[at]), -at))
            yield to_fill(lesson, TEST, start, end, prompts, given=code[nearest])


def is_test_path(path: str) -> bool:
    """Whether a file is one of tests, by its name or by its folder."""
    return bool(enry.is_test(path)) or not TEST_FOLDERS.isdisjoint(PurePosixPath(path).parts[:-1])

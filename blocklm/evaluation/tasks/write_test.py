"""Task `test`: write the body of a new test, given its name and a piece of the code that the same commit changed.

The piece shown shares the most words with the test's path and first line; the body plays no part in the choice.
"""

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import enry

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.evaluation.tasks.body import new_functions
from blocklm.evaluation.tasks.item import PREFIX_CHARS, Prompts, TaskItem, after, text_of, to_fill
from blocklm.retrieval.bm25 import terms

TEST = "test"
TEST_FOLDERS = frozenset({"test", "tests", "__tests__", "testing"})


def test_items(commit: Sequence[AnnotatedHunk], prompts: Prompts) -> Iterator[TaskItem]:
    """Make an item of each new test of a commit that also changes code which is not a test."""
    code, tests = list[tuple[str, str]](), list[tuple[AnnotatedHunk, int, int, str]]()
    for hunk in commit:
        lines = after(hunk)
        new_tests = [function for function in new_functions(hunk) if function.is_test]
        for test in new_tests:
            head = text_of(lines[test.start : test.body])
            tests.append((hunk, test.body, test.body_end, f"{hunk.text.path}\n{head}"))
        if not new_tests and not is_test_path(hunk.text.path):
            code.append((hunk.text.path, text_of(lines)[:PREFIX_CHARS]))
    if code:
        code_words = [frozenset(terms(f"{path}\n{text}")) for path, text in code]
        for hunk, start, end, signature in tests:
            words = frozenset(terms(signature))
            nearest = max(range(len(code)), key=lambda piece: (len(words & code_words[piece]), -piece))
            yield to_fill(hunk, TEST, start, end, prompts, given=code[nearest])


def is_test_path(path: str) -> bool:
    """Tell by its name or folder whether a file contains tests."""
    return bool(enry.is_test(path)) or not TEST_FOLDERS.isdisjoint(PurePosixPath(path).parts[:-1])

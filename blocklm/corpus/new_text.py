"""The text that a change leaves behind, its added runs, and places in it."""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, groupby
from operator import itemgetter

from blocklm.corpus.windows import Line

LETTER = re.compile(r"[^\W_]")


class NewText:
    """Lines of a new file, some of them added, and places in their text.

    Args:
        lines: mark and text of each line.

    Attributes:
        added_runs: first line of each run of added lines that contains a letter or digit, and the line after its last.
    """

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self._text = text_of(lines)
        self._starts = [0, *accumulate(len(text) + 1 for _, text in lines)]
        self.added_runs = list(_added_runs(lines))

    def between(self, start: int, end: int) -> str:
        """The text of the lines from `start` up to `end`, which is not included."""
        return self._text[self._starts[start] : self._starts[end]]

    def before(self, line: int, chars: int) -> str:
        """The last characters before a line, at most `chars`."""
        end = self._starts[line]
        return self._text[max(0, end - chars) : end]

    def behind(self, line: int, chars: int) -> str:
        """The first characters from a line on, at most `chars`."""
        start = self._starts[line]
        return self._text[start : start + chars]


def _added_runs(lines: list[Line]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each run of added lines that contains a letter or digit."""
    start = 0
    for mark, run in groupby(lines, key=itemgetter(0)):
        end = start + len(list(run))
        if mark == "+" and any(LETTER.search(text) for _, text in lines[start:end]):
            yield start, end
        start = end


def text_of(lines: Sequence[Line]) -> str:
    """Join lines without their marks."""
    return "".join(f"{text}\n" for _, text in lines)

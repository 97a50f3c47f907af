"""Rebuilds a file as it was while a commit was written: with the hunks above a place, and without those below it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blocklm.corpus.windows import Line

HEADER = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileState:
    """A hunk in its file: the hunks above it have been applied, those below it have not.

    Attributes:
        hunk: mark and text of each line of the hunk, context included.
        new: all lines of the file after the commit.
        old: all lines of the file before the commit.
        start: number of lines of `new` above the hunk.
        end: number of lines of `old` up to the end of the hunk.
    """

    hunk: Sequence[Line]
    new: Sequence[str]
    old: Sequence[str]
    start: int
    end: int

    def above(self, lines: int) -> list[str]:
        """Return the last lines above the hunk, at most `lines`."""
        return list(self.new[max(0, self.start - lines) : self.start])

    def below(self, lines: int) -> list[str]:
        """Return the first lines below the hunk, at most `lines`."""
        return list(self.old[self.end : self.end + lines])


def file_states(text: str, diff: str) -> list[FileState] | None:
    """Rebuild the state of a file at each hunk of a commit; None if the diff does not lead to the text.

    A file and a diff can disagree where secrets were replaced in one of them only.

    Args:
        text: the file after the commit.
        diff: hunks of the commit in this file, with their headers.
    """
    new = _lines(text)
    headers = list(HEADER.finditer(diff))
    hunks: list[list[Line]] = []
    starts: list[int] = []
    old: list[str] = []
    ends: list[int] = []
    copied = 0
    for header, following in zip(headers, [*headers[1:], None], strict=True):
        body = diff[header.end() + 1 : None if following is None else following.start()]
        hunk = [(line[0], line[1:]) for line in body.split("\n") if line and line[0] in " +-"]
        shown = [line for mark, line in hunk if mark != "-"]
        start = int(header[3]) - (header[4] != "0")  # of an empty range, git gives the line above it
        if new[start : start + len(shown)] != shown:
            return None
        old += new[copied:start]
        old += [line for mark, line in hunk if mark != "+"]
        copied = start + len(shown)
        hunks.append(hunk)
        starts.append(start)
        ends.append(len(old))
    old += new[copied:]
    return [FileState(hunk, new, old, start, end) for hunk, start, end in zip(hunks, starts, ends, strict=True)]


def _lines(text: str) -> list[str]:
    """Split a text into lines as git counts them: only line feeds end a line."""
    return text.removesuffix("\n").split("\n") if text else []

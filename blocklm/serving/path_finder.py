"""Finds the file that an editor shows, by its lines: editors send text around the cursor, and no path."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import files_of, read_contents

MAX_FILE_BYTES = 200_000
MAX_BYTES = 64 << 20  # of all files together: their lines take about three times as much memory
MIN_CHARS = 8  # of a line, for it to say anything
MAX_FILES = 20  # with the same line; a commoner one says nothing
MAX_LINES = 300  # nearest to the cursor that are compared, on each side
MIN_FOUND = 3  # lines that the file must have
MIN_SHARE = 0.5  # of the telling lines that the file must have
MIN_LEAD = 1.5  # times the score of the next file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A file of a repository: the repository's name, and the file's path."""

    repo: str
    path: str


class PathFinder:
    """Recognises files by their lines.

    Args:
        files: each file with its text.
    """

    def __init__(self, files: Iterable[tuple[FilePlace, str]]) -> None:
        self._files: list[FilePlace] = []
        with_line: dict[int, list[int]] = defaultdict(list)
        for number, (file, text) in enumerate(files):
            self._files.append(file)
            for line in _telling(text.split("\n")):
                if len(with_line[line]) <= MAX_FILES:
                    with_line[line].append(number)
        self._with_line = {line: numbers for line, numbers in with_line.items() if len(numbers) <= MAX_FILES}

    @classmethod
    def of_heads(cls, repositories: Sequence[Repository]) -> "PathFinder":
        """Read the files at the head of each repository."""
        return cls(file for repository in repositories for file in _read(repository))

    def find(self, before: str, after: str) -> FilePlace | None:
        """Find the file that has the lines around a cursor; None if none has most of them, or several have.

        Args:
            before: text before the cursor.
            after: text after it.
        """
        lines = before.split("\n")[-MAX_LINES - 1 : -1] + after.split("\n")[1 : MAX_LINES + 1]
        known = [self._with_line[line] for line in _telling(lines) if line in self._with_line]
        scores: dict[int, float] = defaultdict(float)
        found: dict[int, int] = defaultdict(int)
        for numbers in known:
            for number in numbers:
                scores[number] += 1 / len(numbers)
                found[number] += 1
        if not scores:
            return None
        best, *others = sorted(scores, key=lambda number: -scores[number])
        telling = len(_telling(lines))
        if found[best] < MIN_FOUND or found[best] < MIN_SHARE * telling:
            return None
        if others and scores[best] < MIN_LEAD * scores[others[0]]:
            return None
        return self._files[best]


def _telling(lines: Sequence[str]) -> set[int]:
    """Hash the lines that are long enough to tell files apart."""
    return {hash(line) for text in lines if len(line := text.strip()) >= MIN_CHARS}


def _read(repository: Repository) -> Iterator[tuple[FilePlace, str]]:
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        paths: dict[str, list[str]] = defaultdict(list)
        size = 0
        for file in files_of(environment, repository.head):
            if file.size <= MAX_FILE_BYTES:
                size += file.size
                if size > MAX_BYTES:
                    logger.warning("%s is large: the files after %s are not recognised", repository.name, file.path)
                    break
                paths[file.blob].append(file.path)
        for blob, content in read_contents(environment, list(paths)):
            if b"\0" not in content:
                for path in paths[blob]:
                    yield FilePlace(repository.name, path), content.decode(errors="replace")

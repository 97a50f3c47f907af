"""What an editor knows around a place in a file, as values that a prompt is built from."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecentEdit:
    """A change that was just made: the path of its file, and some lines of it before and after."""

    path: str
    original: str
    updated: str


@dataclass(frozen=True, slots=True)
class FilePiece:
    """Some lines of another file: its path and the lines."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file, and what an editor knows around it.

    Attributes:
        repo: name of the repository.
        path: path of the file; None if the editor does not tell it, and then the repository is left out too.
        before: text up to the place; for `next_edit` the lines that may change, which are never cut.
        after: text after the place.
        edits: recent edits, the nearest last.
        pieces: pieces of other files, the nearest last.
    """

    repo: str
    path: str | None
    before: str
    after: str = ""
    edits: Sequence[RecentEdit] = ()
    pieces: Sequence[FilePiece] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prompt shows around a place.

    Attributes:
        file: whether it shows the file around the place.
        edits: whether it shows recent edits.
        path: whether it may name the file and the repository.
    """

    file: bool = True
    edits: bool = True
    path: bool = True

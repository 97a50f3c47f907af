"""Keeps the answers of the arms in a file, so that an interrupted exam continues where it stopped."""

from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blocklm.files import json_line, read_json_lines


class Answers:
    """Answers by key, one line each in a file; a line that a kill cut off is ignored, and its question asked again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = dict(_read(path))

    def __enter__(self) -> Self:
        """Open the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
        self._file.write("\n")  # ends a line that a kill cut off
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def get(self, key: str) -> Any:
        """Return the answer; None if there is none yet."""
        return self._known.get(key)

    def add(self, key: str, answer: Any) -> None:
        """Store an answer, a value that JSON can represent."""
        self._known[key] = answer
        self._file.write(json_line([key, answer]))
        self._file.flush()


def key_of(weights: str, *question: Any) -> str:
    """Make the key of an answer; it is valid for the same weights, tokens and rules only."""
    return sha256("|".join(map(str, (weights, *question))).encode()).hexdigest()[:24]


def _read(path: Path) -> list[tuple[str, Any]]:
    rows = read_json_lines(path, skip_torn=True)
    return [(str(row[0]), row[1]) for row in rows if isinstance(row, list) and len(row) == 2]

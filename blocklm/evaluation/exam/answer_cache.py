"""What the arms have answered already, so that an exam goes on where it was interrupted."""

from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blocklm.files import json_line, read_json_lines


class Answers:
    """Answers by key, kept line by line in a file; a line that a kill tore is asked again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = dict(_read(path))

    def __enter__(self) -> Self:
        """Open the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8", errors="backslashreplace")
        self._file.write("\n")  # ends what a kill left of a line
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def get(self, key: str) -> Any:
        """The answer, None if it was not asked for."""
        return self._known.get(key)

    def add(self, key: str, answer: Any) -> None:
        """Keep an answer that JSON can hold."""
        self._known[key] = answer
        self._file.write(json_line([key, answer]))
        self._file.flush()


def key_of(weights: str, *asked: Any) -> str:
    """A name for what some weights are asked: an answer counts for the same weights, the same tokens and the same rules only."""
    return sha256("|".join(map(str, (weights, *asked))).encode()).hexdigest()[:24]


def _read(path: Path) -> list[tuple[str, Any]]:
    rows = read_json_lines(path, skip_torn=True)
    return [(str(row[0]), row[1]) for row in rows if isinstance(row, list) and len(row) == 2]

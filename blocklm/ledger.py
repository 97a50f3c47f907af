"""What was found out already, kept line by line, so that long work goes on where it was interrupted."""

import json
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Ledger:
    """JSON values by what they answer, in a file; a line that a kill tore is found out again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values = dict(_read(path)) if path.is_file() else {}

    def __enter__(self) -> Self:
        """Open the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        self._file.write("\n")  # ends what a kill left of a line
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def get(self, asked: str) -> Any:
        """The value, None if there is none."""
        return self._values.get(_key(asked))

    def add(self, asked: str, value: Any) -> None:
        """Keep a value."""
        key = _key(asked)
        self._values[key] = value
        self._file.write(json.dumps([key, value]) + "\n")
        self._file.flush()


def _key(asked: str) -> str:
    return sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _read(path: Path) -> list[tuple[str, Any]]:
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            key, value = json.loads(line)
        except (ValueError, TypeError):
            continue
        found.append((str(key), value))
    return found

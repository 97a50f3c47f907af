"""What the arms have answered already, so that an exam goes on where it was interrupted."""

import json
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from blocklm.items import Item


class Answers:
    """Bits by arm and question, kept line by line in a file; a line that a kill tore is asked again.

    An answer counts for the same weights and the same tokens only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bits = dict(_read(path)) if path.is_file() else {}

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

    def get(self, weights: str, item: Item) -> float | None:
        """The bits that these weights needed, None if they were not asked."""
        return self._bits.get(_key(weights, item))

    def add(self, weights: str, item: Item, bits: float) -> None:
        """Keep an answer."""
        key = _key(weights, item)
        self._bits[key] = bits
        self._file.write(json.dumps([key, bits]) + "\n")
        self._file.flush()


def _key(weights: str, item: Item) -> str:
    return sha256(f"{weights}|{item.encoded.input_ids}|{item.encoded.scored}".encode()).hexdigest()[:24]


def _read(path: Path) -> list[tuple[str, float]]:
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            key, bits = json.loads(line)
        except ValueError:
            continue
        found.append((str(key), float(bits)))
    return found

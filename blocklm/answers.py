"""What the arms have answered already, so that an exam goes on where it was interrupted."""

from pathlib import Path
from types import TracebackType
from typing import Self

from blocklm.items import Item
from blocklm.ledger import Ledger


class Answers:
    """Bits by arm and question; an answer counts for the same weights and the same tokens only."""

    def __init__(self, path: Path) -> None:
        self._ledger = Ledger(path)

    def __enter__(self) -> Self:
        """Open the file."""
        self._ledger.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the file."""
        self._ledger.__exit__(kind, error, at)

    def get(self, weights: str, item: Item) -> float | None:
        """The bits that these weights needed, None if they were not asked."""
        found = self._ledger.get(_asked(weights, item))
        return None if found is None else float(found)

    def add(self, weights: str, item: Item, bits: float) -> None:
        """Keep an answer."""
        self._ledger.add(_asked(weights, item), bits)


def _asked(weights: str, item: Item) -> str:
    return f"{weights}|{item.encoded.input_ids}|{item.encoded.scored}"

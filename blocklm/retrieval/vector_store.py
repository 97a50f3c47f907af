"""Stores embeddings by name in plain files; the Qdrant store (`qdrant_store`) gives the same hits.

A store records which model its vectors come from, and for which head of a history it was last filled.
"""

import json
import logging
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from blocklm.files import replacing, write_json

INFO = "made.json"
PART = re.compile(r"\d{6,}\.npz")  # a copy beside it has another name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """The embedding model of a store, the dimension of its vectors, and the head for which it was last filled."""

    model: str
    dimension: int
    head: str


class Vectors(Protocol):
    """A store of vectors of length one; `place` says where it is."""

    place: str

    def read_info(self) -> StoreInfo | None:
        """Return model, dimension and head of the store; None if it is new."""

    def write_info(self, info: StoreInfo) -> None:
        """Record model, dimension and head; must come before `add`."""

    def clear(self) -> None:
        """Delete all vectors."""

    def known(self) -> set[str]:
        """Return the names of all vectors."""

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Store vectors under new names; they are on the disk when this returns."""

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Return name and cosine of the nearest vectors, the nearest first."""


class FileVectors:
    """Vectors in a folder, with a file for each call of `add`; a search compares all of them.

    Args:
        folder: folder of the files, created when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._folder = folder
        self._vectors: np.ndarray | None  # None if some were added since the files were read
        self._names, self._vectors = self._read_parts()

    def read_info(self) -> StoreInfo | None:
        """Read the folder's `made.json`."""
        path = self._folder / INFO
        return StoreInfo(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def write_info(self, info: StoreInfo) -> None:
        """Write the folder's `made.json`."""
        write_json(self._folder / INFO, asdict(info))

    def clear(self) -> None:
        """Delete the files."""
        for path in (*self._parts(), self._folder / INFO):
            path.unlink(missing_ok=True)
        self._names, self._vectors = self._read_parts()

    def known(self) -> set[str]:
        """Return the names in all files."""
        return set(self._names.tolist())

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Write one more file, in one step."""
        numbers = [int(part.stem) for part in self._parts()]  # not their count: a damaged file may have been deleted
        part = self._folder / f"{max(numbers, default=-1) + 1:06d}.npz"
        with replacing(part) as file:
            np.savez(file, names=np.array(names), vectors=vectors)
        self._names, self._vectors = np.append(self._names, names), None

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Return name and cosine of the nearest vectors, the nearest first."""
        if self._vectors is None:
            self._names, self._vectors = self._read_parts()
        if not len(self._names):
            return []
        # BLAS is avoided because its threads spin on for a while, which makes the next question's embedding eight
        # times as slow.
        cosines = np.einsum("ij,j->i", self._vectors, vector)
        best = np.argpartition(-cosines, min(count, len(cosines)) - 1)[:count]
        return sorted(((str(self._names[row]), float(cosines[row])) for row in best), key=lambda pair: -pair[1])

    def _parts(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if PART.fullmatch(path.name))

    def _read_parts(self) -> tuple[np.ndarray, np.ndarray]:
        names, vectors = [np.zeros(0, "<U32")], list[np.ndarray]()
        for part in self._parts():
            try:
                with np.load(part) as arrays:
                    part_names, part_vectors = arrays["names"], arrays["vectors"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s is damaged (%s): its texts are embedded again", part, error)
                part.unlink(missing_ok=True)
                continue
            names.append(part_names)
            vectors.append(part_vectors)
        return np.concatenate(names), np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)

"""Stores embeddings by name in plain files; the Qdrant store (`qdrant_store`) gives the same answers.

A store knows which model made what it keeps, and for which head of a history it was last filled.
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

MADE = "made.json"
PART = re.compile(r"\d{6,}\.npz")  # and no copy that somebody put beside it

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

    def made(self) -> StoreInfo | None:
        """What it holds; None if it is new."""

    def begin(self, made: StoreInfo) -> None:
        """Say what it holds from now on."""

    def clear(self) -> None:
        """Forget all."""

    def known(self) -> set[str]:
        """The names of its vectors."""

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Keep vectors under names that are not known yet; they stay if the process is killed afterwards."""

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Name and cosine of the nearest, the nearest first."""


class FileVectors:
    """Vectors in a folder, one file for each time that some were added; all are compared with a question.

    Args:
        folder: which appears when there is something to keep.
    """

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._folder = folder
        self._vectors: np.ndarray | None  # None if some were added since they were read
        self._names, self._vectors = self._kept()

    def made(self) -> StoreInfo | None:
        """Read what the folder says."""
        path = self._folder / MADE
        return StoreInfo(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None

    def begin(self, made: StoreInfo) -> None:
        """Write it into the folder."""
        write_json(self._folder / MADE, asdict(made))

    def clear(self) -> None:
        """Delete the files."""
        for path in (*self._parts(), self._folder / MADE):
            path.unlink(missing_ok=True)
        self._names, self._vectors = self._kept()

    def known(self) -> set[str]:
        """The names in all files."""
        return set(self._names.tolist())

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Write one more file, which is there whole or not at all."""
        taken = [int(part.stem) for part in self._parts()]  # a damaged one in their midst may have gone
        part = self._folder / f"{max(taken, default=-1) + 1:06d}.npz"
        with replacing(part) as file:
            np.savez(file, names=np.array(names), vectors=vectors)
        self._names, self._vectors = np.append(self._names, names), None

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Compare all."""
        if self._vectors is None:
            self._names, self._vectors = self._kept()
        if not len(self._names):
            return []
        # Not by BLAS, whose threads go on spinning for a while and slow the model that embeds the next question
        # eightfold.
        cosines = np.einsum("ij,j->i", self._vectors, vector)
        best = np.argpartition(-cosines, min(count, len(cosines)) - 1)[:count]
        return sorted(((str(self._names[at]), float(cosines[at])) for at in best), key=lambda pair: -pair[1])

    def _parts(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        return sorted(path for path in self._folder.iterdir() if PART.fullmatch(path.name))

    def _kept(self) -> tuple[np.ndarray, np.ndarray]:
        names, vectors = [np.zeros(0, "<U32")], list[np.ndarray]()
        for part in self._parts():
            try:
                with np.load(part) as kept:
                    found = kept["names"], kept["vectors"]
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s is damaged (%s): what was in it is embedded again", part, error)
                part.unlink(missing_ok=True)
                continue
            names.append(found[0])
            vectors.append(found[1])
        return np.concatenate(names), np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32)

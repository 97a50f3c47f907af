"""Embeddings in Qdrant: in a folder without a server, or in a server that several machines share.

Search is exact in both, so that answers are those of plain files. The embedded one compares all vectors in this
process as files do, holds its folder for one process alone, and writes each point by itself (about 15 ms a point).
"""

import atexit
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from blocklm.errors import UserError
from blocklm.retrieval.vector_store import StoreInfo

AT_ONCE = 500
PAGE = 10_000


class QdrantVectors:
    """Vectors as points of a collection, which appears when there is something to keep.

    Args:
        name: name of the collection.
        folder: folder of the embedded Qdrant.
        url: URL of a server to use instead; its key is read from QDRANT_API_KEY.

    Raises:
        UserError: another process has the folder, or the server does not answer.
    """

    def __init__(self, name: str, folder: Path, url: str | None = None) -> None:
        self.place = f"{url.rstrip('/')}/collections/{name}" if url else str(folder)
        self._name = name
        self._exact = models.SearchParams(exact=True) if url else None  # the embedded one knows no other and warns
        try:
            self._client = _client(folder, url)
            atexit.register(self._client.close)  # which it would else try when Python is half gone
        except RuntimeError as error:
            if "already accessed" not in str(error):
                raise
            raise UserError(
                f"{folder} is in use by another process", "wait for it, or use a server: `qdrant_url`"
            ) from None

    def made(self) -> StoreInfo | None:
        """Read the metadata of the collection."""
        with self._answering():
            if not self._client.collection_exists(self._name):
                return None
            about = self._client.get_collection(self._name).config
        size = about.params.vectors.size
        metadata: dict[str, Any] = about.metadata or {}
        return StoreInfo(str(metadata.get("model")), int(size), str(metadata.get("head")))

    def begin(self, made: StoreInfo) -> None:
        """Make the collection, or write its metadata anew."""
        with self._answering():
            if self._client.collection_exists(self._name):
                self._client.update_collection(self._name, metadata=asdict(made))
                return
            shape = models.VectorParams(size=made.dimension, distance=models.Distance.COSINE)
            self._client.create_collection(self._name, vectors_config=shape, metadata=asdict(made))

    def clear(self) -> None:
        """Delete the collection."""
        with self._answering():
            self._client.delete_collection(self._name)

    def known(self) -> set[str]:
        """The names of all points."""
        found: set[str] = set()
        offset: Any = None
        with self._answering():
            while True:
                points, offset = self._client.scroll(
                    self._name, limit=PAGE, offset=offset, with_payload=False, with_vectors=False
                )
                found |= {UUID(str(point.id)).hex for point in points}
                if offset is None:
                    return found

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Write points and wait until the store has them."""
        with self._answering():
            for start in range(0, len(names), AT_ONCE):
                some = zip(names[start : start + AT_ONCE], vectors[start : start + AT_ONCE].tolist(), strict=True)
                points = [models.PointStruct(id=str(UUID(name)), vector=vector, payload={}) for name, vector in some]
                self._client.upsert(self._name, points, wait=True)

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Ask the store, which compares all."""
        with self._answering():
            found = self._client.query_points(
                self._name, query=vector.tolist(), limit=count, with_payload=False, search_params=self._exact
            )
        return [(UUID(str(point.id)).hex, float(point.score)) for point in found.points]

    def close(self) -> None:
        """Let another process have the folder."""
        self._client.close()

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (ApiException, OSError) as error:
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"Qdrant at {self.place} does not do what it is asked: {why}",
                "start it or mend `qdrant_url` (its key is QDRANT_API_KEY), or leave both out for plain files",
            ) from None


def _client(folder: Path, url: str | None) -> QdrantClient:
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        return QdrantClient(path=str(folder))
    return QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False, timeout=60)

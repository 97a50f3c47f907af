"""Embeddings in Qdrant: in a folder without a server, or in a server that several machines share.

Search is exact in both, so that it gives the same hits as plain files. The embedded Qdrant compares all vectors in this
process, locks its folder for one process, and writes each point separately (about 15 ms a point).
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

POINTS_PER_WRITE = 500
POINTS_PER_PAGE = 10_000


class QdrantVectors:
    """Vectors as points of a collection, which is created by `write_info`.

    Args:
        name: name of the collection.
        folder: folder of the embedded Qdrant.
        url: URL of a server to use instead; its key is read from QDRANT_API_KEY.

    Raises:
        UserError: another process uses the folder, or the server does not answer.
    """

    def __init__(self, name: str, folder: Path, url: str | None = None) -> None:
        self.place = f"{url.rstrip('/')}/collections/{name}" if url else str(folder)
        self._name = name
        self._exact = (
            models.SearchParams(exact=True) if url else None
        )  # the embedded Qdrant is always exact, and warns about this
        try:
            self._client = _client(folder, url)
            atexit.register(self._client.close)  # without this it closes too late, during Python's own shutdown
        except RuntimeError as error:
            if "already accessed" not in str(error):
                raise
            raise UserError(
                f"{folder} is in use by another process", "wait until it ends, or set `qdrant_url` to a server"
            ) from None

    def read_info(self) -> StoreInfo | None:
        """Read the collection's metadata; None if there is no collection."""
        with self._translate_errors():
            if not self._client.collection_exists(self._name):
                return None
            config = self._client.get_collection(self._name).config
        size = config.params.vectors.size
        metadata: dict[str, Any] = config.metadata or {}
        return StoreInfo(str(metadata.get("model")), int(size), str(metadata.get("head")))

    def write_info(self, info: StoreInfo) -> None:
        """Create the collection, or replace its metadata."""
        with self._translate_errors():
            if self._client.collection_exists(self._name):
                self._client.update_collection(self._name, metadata=asdict(info))
                return
            shape = models.VectorParams(size=info.dimension, distance=models.Distance.COSINE)
            self._client.create_collection(self._name, vectors_config=shape, metadata=asdict(info))

    def clear(self) -> None:
        """Delete the collection."""
        with self._translate_errors():
            self._client.delete_collection(self._name)

    def known(self) -> set[str]:
        """Return the names of all points."""
        names: set[str] = set()
        offset: Any = None
        with self._translate_errors():
            while True:
                points, offset = self._client.scroll(
                    self._name, limit=POINTS_PER_PAGE, offset=offset, with_payload=False, with_vectors=False
                )
                names |= {UUID(str(point.id)).hex for point in points}
                if offset is None:
                    return names

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        """Write points and wait until the store has them."""
        with self._translate_errors():
            for start in range(0, len(names), POINTS_PER_WRITE):
                part = slice(start, start + POINTS_PER_WRITE)
                batch = zip(names[part], vectors[part].tolist(), strict=True)
                points = [models.PointStruct(id=str(UUID(name)), vector=vector, payload={}) for name, vector in batch]
                self._client.upsert(self._name, points, wait=True)

    def nearest(self, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
        """Return name and cosine of the nearest points, the nearest first."""
        with self._translate_errors():
            response = self._client.query_points(
                self._name, query=vector.tolist(), limit=count, with_payload=False, search_params=self._exact
            )
        return [(UUID(str(point.id)).hex, float(point.score)) for point in response.points]

    def close(self) -> None:
        """Release the folder for other processes."""
        self._client.close()

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise errors of the client as `UserError`."""
        try:
            yield
        except (ApiException, OSError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"Qdrant at {self.place} cannot serve the request: {reason}",
                "start the server, set `qdrant_url` to its URL and QDRANT_API_KEY to its key, or leave `vector_store` "
                "and `qdrant_url` out to use plain files",
            ) from None


def _client(folder: Path, url: str | None) -> QdrantClient:
    if url is None:
        folder.mkdir(parents=True, exist_ok=True)
        return QdrantClient(path=str(folder))
    return QdrantClient(url=url, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False, timeout=60)

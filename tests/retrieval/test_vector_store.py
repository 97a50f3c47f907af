"""Files, Qdrant in a folder and a Qdrant server store embeddings and give the same hits."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from blocklm.errors import UserError
from blocklm.retrieval.qdrant_store import QdrantVectors
from blocklm.retrieval.vector_store import FileVectors, StoreInfo, Vectors
from tests.support.loopback_qdrant import KEY, qdrant_server

INFO = StoreInfo("a model", 8, "head one")
NAMES = [f"{at:032x}" for at in range(40)]
Opens = Callable[[], Vectors]


def unit_vectors() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(len(NAMES), INFO.dimension)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


@pytest.fixture(params=["files", "folder", "server"])
def opens(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opens]:
    """Open one kind of store; the one opened before is closed."""
    if request.param == "files":
        yield lambda: FileVectors(tmp_path / "vectors")
    elif request.param == "folder":
        opened: list[QdrantVectors] = []

        def again() -> Vectors:
            for store in opened:
                store.close()
            opened.append(QdrantVectors("it", tmp_path / "qdrant"))
            return opened[-1]

        yield again
    else:
        monkeypatch.setenv("QDRANT_API_KEY", KEY)
        with qdrant_server() as (url, _):
            yield lambda: QdrantVectors("it", tmp_path / "unused", url)


def test_a_new_store_is_empty(opens: Opens) -> None:
    assert opens().read_info() is None


def test_stored_vectors_are_found_by_another_process(opens: Opens) -> None:
    vectors, store = unit_vectors(), opens()
    store.write_info(INFO)
    store.add(NAMES[:25], vectors[:25])
    store.add(NAMES[25:], vectors[25:])
    for another in (False, True):
        store = opens() if another else store
        assert store.read_info() == INFO
        assert store.known() == set(NAMES)
        cosines = vectors @ vectors[7]
        expected = [NAMES[at] for at in np.argsort(-cosines)[:5]]
        found = store.nearest(vectors[7], 5)
        assert [name for name, _ in found] == expected
        assert [cosine for _, cosine in found] == pytest.approx(sorted(cosines, reverse=True)[:5], abs=1e-5)
        assert len(store.nearest(vectors[7], 100)) == len(NAMES)


def test_the_head_can_change_and_the_store_can_be_cleared(opens: Opens) -> None:
    store = opens()
    store.write_info(INFO)
    store.add(NAMES, unit_vectors())
    grown = StoreInfo(INFO.model, INFO.dimension, "head two")
    store.write_info(grown)
    assert store.read_info() == grown
    assert store.known() == set(NAMES)
    store.clear()
    assert store.read_info() is None
    store.write_info(INFO)
    assert store.known() == set()
    assert store.nearest(unit_vectors()[0], 3) == []


def test_an_unfinished_file_is_ignored(tmp_path: Path) -> None:
    store = FileVectors(tmp_path)
    store.write_info(INFO)
    store.add(NAMES[:3], unit_vectors()[:3])
    (tmp_path / ".part").write_bytes(b"half")
    assert FileVectors(tmp_path).known() == set(NAMES[:3])


def test_a_damaged_file_loses_only_its_own_vectors(tmp_path: Path) -> None:
    store = FileVectors(tmp_path)
    for start in (0, 10, 20):
        store.add(NAMES[start : start + 10], unit_vectors()[start : start + 10])
    (tmp_path / "000001.npz").write_bytes((tmp_path / "000001.npz").read_bytes()[:100])
    again = FileVectors(tmp_path)
    assert again.known() == {*NAMES[:10], *NAMES[20:30]}
    again.add(NAMES[10:20], unit_vectors()[10:20])
    assert FileVectors(tmp_path).known() == set(NAMES[:30])


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first = QdrantVectors("it", tmp_path)
    with pytest.raises(UserError, match="in use by another process"):
        QdrantVectors("it", tmp_path)
    first.close()


def test_a_server_that_is_absent_or_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot serve the request") as error:
        QdrantVectors("it", tmp_path, "http://127.0.0.1:9").read_info()
    assert "`qdrant_url`" in error.value.hint
    monkeypatch.setenv("QDRANT_API_KEY", "another key")
    with qdrant_server() as (url, _), pytest.raises(UserError, match="401") as error:
        QdrantVectors("it", tmp_path, url).read_info()
    assert "another key" not in str(error.value)

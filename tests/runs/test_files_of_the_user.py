"""Files that a user puts beside BlockLM's are neither read, published nor deleted."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from blocklm.errors import UserError
from blocklm.retrieval.vector_store import FileVectors, StoreInfo
from blocklm.runs.manifest import read_manifest
from blocklm.runs.report.series import read_series
from blocklm.runs.top_up import roll_back
from tests.conftest import changes_of


def test_a_rollback_keeps_the_users_files(tmp_path: Path) -> None:
    run, previous = tmp_path / "run", tmp_path / "previous"
    for folder, weights in ((run, b"worse"), (previous, b"better")):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(weights)
        (folder / "adapter_config.json").write_text("{}")
    theirs = ("adapter_backup.tar", "old.safetensors", "adapter_model.safetensors.bak")
    for name in theirs:
        (run / name).write_bytes(b"theirs")
    roll_back(run, previous)
    assert (run / "adapter_model.safetensors").read_bytes() == b"better"
    assert {path.name for path in (run / "rejected").iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    assert all((run / name).read_bytes() == b"theirs" for name in theirs)


def test_the_curves_are_read_beside_an_archive_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "tensorboard"
    writer = SummaryWriter(str(folder))
    writer.add_scalar("train/loss", 2.0, 1)
    writer.close()
    (written,) = folder.iterdir()
    expected = read_series(tmp_path, None)
    (folder / f"{written.name}.gz").write_bytes(gzip.compress(written.read_bytes()))
    (folder / "old.tfevents.d").mkdir()
    (folder / "notes.tfevents.txt").write_text("what I saw\n")
    assert read_series(tmp_path, None) == expected == {"train/loss": ((1, 2.0),)}


def test_a_copy_of_embeddings_is_not_read(tmp_path: Path) -> None:
    store = FileVectors(tmp_path)
    store.write_info(StoreInfo("model", 2, "a" * 40))
    store.add(["one"], np.array([[1.0, 0.0]], np.float32))
    shutil.copy(tmp_path / "000000.npz", tmp_path / "000000 (copy).npz")
    (tmp_path / "1-old.npz").write_bytes(b"torn")
    again = FileVectors(tmp_path)
    again.add(["two"], np.array([[0.0, 1.0]], np.float32))
    assert again.known() == {"one", "two"}
    again.clear()
    assert (tmp_path / "1-old.npz").exists()


def test_a_copy_of_a_corpus_outlives_the_next_mining(tmp_path: Path, project: Path) -> None:
    """The dataset of a shorter history is deleted, but not a user's copy of it."""
    corpora = tmp_path / "corpora"
    changes_of(project, corpora)
    (mined,) = (corpora / project.name).glob("changes-*")
    copy = mined.with_name(f"{mined.name}-copy")
    shutil.copytree(mined, copy)
    shutil.rmtree(mined)
    assert changes_of(project, corpora).cache == "built", "not extended from the copy"
    assert copy.is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="is damaged") as refused:
        read_manifest(tmp_path)
    assert "delete it" in refused.value.hint

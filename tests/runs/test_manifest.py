"""The manifest is valid after every phase and after a kill at any time."""

import json
from pathlib import Path

import pytest

from blocklm.files import write_json
from blocklm.interrupts import Interrupted
from blocklm.runs.manifest import SECTIONS, Manifest, read_manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(tmp_path / "manifest.json", {"seed": 1})


def on_disk(folder: Path) -> dict[str, object]:
    content = read_manifest(folder)
    assert content is not None
    return content


def test_the_status_is_interrupted_until_the_end(manifest: Manifest, tmp_path: Path) -> None:
    assert on_disk(tmp_path)["status"] == "interrupted"
    with manifest.phase("mine"):
        assert on_disk(tmp_path)["phases"] == [{"name": "mine", "status": "running", "seconds": None}]
    manifest.finish("complete")
    assert on_disk(tmp_path)["status"] == "complete"
    assert set(SECTIONS) < set(on_disk(tmp_path))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (ValueError("too hot"), "failed", "too hot"),
        (ValueError(), "failed", "ValueError"),
        (Interrupted(2), "interrupted", None),
    ],
)
def test_a_failed_phase_records_its_status_and_reason(
    manifest: Manifest, tmp_path: Path, error: BaseException, status: str, reason: str | None
) -> None:
    with pytest.raises(type(error)), manifest.phase("train"):
        raise error
    assert on_disk(tmp_path)["status"] == status
    assert manifest.content["phases"][0]["status"] == status
    assert manifest.content["phases"][0].get("reason") == reason


def test_a_new_start_keeps_the_results_of_earlier_phases(tmp_path: Path) -> None:
    """After a second kill before the training phase, the third start still knows that training had ended."""
    Manifest(tmp_path / "manifest.json", {}, kept={"plan": None, "training": {"steps": 4}})
    assert on_disk(tmp_path)["training"] == {"steps": 4}


def test_only_the_main_process_writes(tmp_path: Path) -> None:
    Manifest(tmp_path / "manifest.json", {}, writes=False).finish("complete")
    assert read_manifest(tmp_path) is None


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"old": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"new": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

"""A checkpoint counts if all of it is there; other files in a run directory belong to the user."""

import json
import logging
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.runs.checkpoints import checkpoints, damage_of, delete_old_checkpoints, latest_checkpoint, saved_weights
from blocklm.runs.directory import claim_run_directory
from blocklm.runs.fingerprint import weights_of
from blocklm.runs.lock import sole_run
from blocklm.training.train import train
from tests.support.trainers import tiny_trainer

KEYS = {"max_steps": 8, "save_steps": 2, "save_total_limit": 2, "eval_strategy": "no"}


@pytest.fixture(scope="module")
def trained(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two checkpoints, at steps 6 and 8, beside which a user put a copy and an archive while it trained."""
    run = tmp_path_factory.mktemp("checkpoints") / "run"
    for name in ("checkpoint-2-copy", "checkpoint-best", "checkpoint-4.old", "old-checkpoint-2"):
        (run / name).mkdir(parents=True)
    (run / "checkpoint-2.tar.gz").write_bytes(b"archive")
    train(tiny_trainer(tiny_models["llama"], run, KEYS), Interrupts())
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_only_our_own_checkpoints_are_read_or_deleted(trained: Path) -> None:
    assert [path.name for path in checkpoints(trained)] == ["checkpoint-8", "checkpoint-6"]
    assert latest_checkpoint(trained) == trained / "checkpoint-8"
    theirs = ("checkpoint-2-copy", "checkpoint-best", "checkpoint-4.old", "old-checkpoint-2", "checkpoint-2.tar.gz")
    assert all((trained / name).exists() for name in theirs), "`save_total_limit` is for ours"


@pytest.mark.parametrize(
    "name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "adapter_model.safetensors", "adapter_config.json"]
)
@pytest.mark.parametrize("how", ["missing", "empty", "half", "garbled"])
def test_a_checkpoint_without_one_of_its_files_is_skipped(run: Path, name: str, how: str) -> None:
    path = run / "checkpoint-8" / name
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "garbled" and path.suffix in (".pt", ".pth"):
        path.write_bytes(content[: len(content) // 3] + b"\xff" * 64 + content[len(content) // 3 + 64 :])
    else:
        path.write_bytes(b"" if how == "empty" else content[: len(content) // 2])
    assert latest_checkpoint(run) == run / "checkpoint-6"
    assert name in str(damage_of(run / "checkpoint-8"))


@pytest.mark.parametrize("state", ["", "[]", "{}", "{"])
def test_a_checkpoint_without_the_trainers_state_is_skipped(run: Path, state: str) -> None:
    (run / "checkpoint-8" / "trainer_state.json").write_text(state)
    assert latest_checkpoint(run) == run / "checkpoint-6"


def test_a_checkpoint_without_one_random_state_is_skipped(run: Path) -> None:
    """Two processes write one file each, and the listing names both."""
    listing = run / "checkpoint-8" / "files.json"
    sizes = json.loads(listing.read_text())
    for process in range(2):
        shutil.copy(run / "checkpoint-8" / "rng_state.pth", run / "checkpoint-8" / f"rng_state_{process}.pth")
        sizes[f"rng_state_{process}.pth"] = sizes["rng_state.pth"]
    listing.write_text(json.dumps(sizes))
    assert latest_checkpoint(run) == run / "checkpoint-8"
    (run / "checkpoint-8" / "rng_state_1.pth").unlink()
    assert latest_checkpoint(run) == run / "checkpoint-6"


def test_a_damaged_best_checkpoint_takes_the_later_ones_with_it(run: Path) -> None:
    state = run / "checkpoint-8" / "trainer_state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"best_global_step": 6}))
    assert latest_checkpoint(run) == run / "checkpoint-8"
    (run / "checkpoint-6" / "adapter_model.safetensors").write_bytes(b"")
    assert latest_checkpoint(run) is None
    assert "checkpoint-6" in str(damage_of(run / "checkpoint-8"))


def test_a_resume_from_the_previous_checkpoint_ends_the_same(run: Path, tiny_models: dict[str, Path]) -> None:
    expected = weights_of(run)
    (run / "checkpoint-8" / "optimizer.pt").write_bytes(b"")
    (run / "adapter_model.safetensors").unlink()
    assert train(tiny_trainer(tiny_models["llama"], run, KEYS), Interrupts())["resumed_from"] == 6
    assert weights_of(run) == expected


def test_skipped_checkpoints_are_logged(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run.parent / "recipe.yaml"
    path.write_text(f"model_name_or_path: models/any\noutput_dir: {run}\n")
    recipe = parse_recipe([str(path)])
    (run / "recipe.yaml").write_text(json.dumps(recipe.resolved()))
    (run / "checkpoint-8" / "scheduler.pt").unlink()
    with caplog.at_level(logging.WARNING):
        assert claim_run_directory(recipe, "a" * 40) is None
    assert "checkpoint-8 is damaged (scheduler.pt is missing): training resumes from checkpoint-6" in caplog.text


def test_other_weights_in_the_folder_are_not_the_runs(run: Path) -> None:
    before = weights_of(run)
    (run / "adapter_model-old.safetensors").write_bytes(b"theirs")
    (run / "backup.safetensors").write_bytes(b"theirs")
    assert weights_of(run) == before
    assert [path.name for path in saved_weights(run)] == ["adapter_model.safetensors"]


def test_the_newest_and_the_best_outlive_the_limit(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        (tmp_path / f"checkpoint-{step}").mkdir()
    delete_old_checkpoints(tmp_path, 2, {4, 2})
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-2"]


def hold(run: Path, held: Any, waits: Any) -> None:
    with sole_run(run):
        held.set()
        waits.wait(60)


@pytest.fixture
def holder(tmp_path: Path) -> Callable[[], tuple[multiprocessing.Process, Any]]:
    def start() -> tuple[multiprocessing.Process, Any]:
        context = multiprocessing.get_context("fork")
        held, waits = context.Event(), context.Event()
        process: Any = context.Process(target=hold, args=(tmp_path / "held", held, waits))
        process.start()
        assert held.wait(60)
        return process, waits

    return start


def test_a_second_run_in_a_directory_is_refused_while_the_first_lives(
    tmp_path: Path, holder: Callable[[], tuple[multiprocessing.Process, Any]]
) -> None:
    first, ends = holder()
    with pytest.raises(UserError, match=f"as process {first.pid}") as refused, sole_run(tmp_path / "held"):
        pass
    assert "--output_dir" in refused.value.hint
    ends.set()
    first.join()
    with sole_run(tmp_path / "held"):
        pass


def test_a_lock_is_released_when_its_process_dies(
    tmp_path: Path, holder: Callable[[], tuple[multiprocessing.Process, Any]]
) -> None:
    first, _ = holder()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    with sole_run(tmp_path / "held"):
        pass


def test_the_processes_of_one_run_share_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: Callable[[], tuple[multiprocessing.Process, Any]]
) -> None:
    first, ends = holder()
    monkeypatch.setenv("RANK", "1")
    with sole_run(tmp_path / "held"):
        pass
    ends.set()
    first.join()

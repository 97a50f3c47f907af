"""Folders that are built once for all tests, by whichever of pytest's workers comes first."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], object]) -> Path:
    """Return the folder that `build` fills; a session fixture alone would be built by each worker.

    Several tests read it at the same time: one that changes something there works on a copy.

    Args:
        factory: pytest's fixture `tmp_path_factory`.
        name: name of the folder, another for each thing that is built.
        build: called with the folder, which exists and is empty, by the first worker that needs it.
    """
    of_worker = factory.getbasetemp()
    root = of_worker.parent if "PYTEST_XDIST_WORKER" in os.environ else of_worker
    folder, built = root / "shared" / name, root / "shared" / f"{name}.built"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker that failed has left
            folder.mkdir()
            build(folder)
            built.touch()
    return folder

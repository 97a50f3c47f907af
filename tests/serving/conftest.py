"""Servers of tiny runs on a real socket, in a thread of the test's process."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from safetensors.torch import load_file, save_file

from blocklm.runs.completed import CompletedRun, open_run
from blocklm.serving.app import make_app
from blocklm.serving.listen import LOOPBACK
from blocklm.serving.served import Served, Switches, load
from tests.conftest import GitRepository
from tests.support.shared import build_once

Open = Callable[[Path], CompletedRun]


@pytest.fixture(scope="session")
def opened(taught: Path, lamps: GitRepository) -> Open:
    """Open a run of `lamps`, whatever the present folder is."""
    keys = ["--repo", str(lamps.path), "--corpus_dir", str(taught.parent / "corpora")]
    return lambda run_dir: open_run(run_dir, keys)


@pytest.fixture(scope="session")
def other(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the same base as `taught`, and another adapter."""

    def change(folder: Path) -> None:
        run = Path(shutil.copytree(taught, folder / "other"))
        weights = load_file(run / "adapter_model.safetensors")
        save_file({name: -tensor for name, tensor in weights.items()}, run / "adapter_model.safetensors")

    return build_once(tmp_path_factory, "other", change) / "other"


@pytest.fixture(scope="session")
def served(taught: Path, opened: Open) -> Served:
    """The run `taught`, with all that is known of its repository."""
    return load([opened(taught)], Switches())


@contextmanager
def running(served: Served) -> Iterator[httpx.Client]:
    """Serve runs within this context; yields a client of the server."""
    config = uvicorn.Config(make_app(served, LOOPBACK), log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            with httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=60) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of a server of the run `taught`."""
    with running(served) as client:
        yield client

"""Our scripts as a user runs them: in a process of their own, or in the test's, where torch is loaded already."""

import importlib.util
import io
import logging
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

SCRIPTS = Path(__file__).parents[2] / "scripts"
Done = subprocess.CompletedProcess[str]


def script_environment() -> dict[str, str]:
    """The environment of a script under test: no hub, no inherited git."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "ACCELERATE_"))}
    return kept | {"HF_HUB_OFFLINE": "1"}


def run_script(name: str, *arguments: str | Path, cwd: Path, **environment: str) -> Done:
    """Run a script in a process of its own, for tests of signals, the environment or the process itself."""
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        cwd=cwd,
        env=script_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def run_in_process(name: str, *arguments: str | Path, cwd: Path, stdin: bytes = b"") -> Done:
    """Run a script in this process and leave the process as it was; a process of its own would load torch first, 7 s.

    An error that the script does not turn into an exit code is raised here.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code = 0
    with _restored(), chdir(cwd), redirect_stdout(out), redirect_stderr(err):
        sys.argv = [name, *map(str, arguments)]
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin))
        try:
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
    stdout, stderr = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess([name, *map(str, arguments)], code, stdout, stderr)


@contextmanager
def _restored() -> Iterator[None]:
    """Give a script the state of a new process, and restore all that it changes beyond its own modules."""
    import torch
    import transformers  # noqa: F401  its log handler keeps the stderr of its first import
    from accelerate.state import AcceleratorState, GradientState, PartialState

    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    root, silenced = logging.getLogger(), logging.getLogger("bm25s")
    levels = {name: logging.getLogger(name).level for name in (None, "blocklm", "bitsandbytes")}
    threads = torch.get_num_threads()
    with ExitStack() as stack:
        stack.enter_context(patch.object(sys, "argv", sys.argv))
        stack.enter_context(patch.object(sys, "stdin", sys.stdin))
        stack.enter_context(patch.object(threading, "excepthook", threading.excepthook))
        stack.enter_context(patch.object(root, "handlers", []))  # pytest's: the script's own goes to its stderr
        stack.enter_context(patch.object(silenced, "disabled", silenced.disabled))
        stack.enter_context(patch.dict(os.environ))
        stack.enter_context(warnings.catch_warnings())
        for state in (PartialState, AcceleratorState, GradientState):
            stack.enter_context(patch.dict(state._shared_state, clear=True))
        try:
            yield
        finally:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
            torch.set_num_threads(threads)


def refused(done: Done) -> str:
    """Assert one clear error with a hint, and return both."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("error: ")
    assert lines[-1].startswith("hint: ")
    return "\n".join(lines[-2:])


class Running:
    """A training process that can be watched and stopped.

    It is forked from a server that has loaded torch and the libraries on it, and done nothing else: to load them again
    for each process would take longer than most of these trainings.
    """

    def __init__(self, arguments: list[str], cwd: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["blocklm.pipeline"])
        handle, output = tempfile.mkstemp(prefix="blocklm-output-")
        os.close(handle)
        self._output = Path(output)
        self.process = context.Process(target=_train, args=(arguments, cwd, self._output))
        self.process.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self.process.pid is not None, "it was started"
        return self.process.pid

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.is_alive()

    def signal(self, signum: int) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, signum)

    def wait_for(self, path: Path) -> None:
        """Wait until the process has written a file or folder."""
        for _ in range(6000):
            if path.exists():
                return
            assert self.is_running(), self.end()[1]
            time.sleep(0.05)
        raise AssertionError(f"{path} did not appear")

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code, negative for a signal, and all output."""
        self.process.join(timeout=300)
        code = self.process.exitcode
        assert code is not None, "it has not ended within 300 seconds"
        return code, self._output.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """Kill the process if it has not ended, and delete what it has said."""
        self.process.kill()
        self.process.join()
        self._output.unlink(missing_ok=True)


def _train(arguments: list[str], cwd: Path, output: Path) -> None:
    """Run the training script in a forked process as it runs in a new one."""
    written = os.open(output, os.O_WRONLY | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(written, stream.fileno())
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    environment = script_environment()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [str(SCRIPTS / "train.py"), *arguments]
    runpy.run_path(str(SCRIPTS / "train.py"), run_name="__main__")


def script_module(name: str) -> ModuleType:
    """One of our scripts as a module, for its `command_line`."""
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py"), SCRIPTS / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

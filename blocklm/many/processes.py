"""Runs tasks, each in a process of its own: one that fails, or is killed, does not touch the others."""

import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from blocklm.console import console
from blocklm.interrupts import PR_SET_PDEATHSIG
from blocklm.many.outcome import FAILED, Outcome, reason_of, write_outcome
from blocklm.many.sources import Source

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The work for one repository.

    Attributes:
        source: the repository.
        work: what is done in a process of its own; can be pickled, writes to stdout and stderr, ends with an exit code.
        result: reads afterwards what was done, as the fields `state`, `commits` and `samples` of an outcome.
        log: file to which all output is appended.
        outcome: file for the outcome.
    """

    source: Source
    work: Callable[[], None]
    result: Callable[[], Mapping[str, Any]]
    log: Path
    outcome: Path


@dataclass
class _Running:
    task: Task
    process: ForkServerProcess
    log_start: int
    started: float = field(default_factory=time.monotonic)

    def end(self) -> Outcome:
        """Read the outcome of the ended process, and write it to its file."""
        self.process.join()
        task, code = self.task, self.process.exitcode
        assert code is not None, "it was joined"
        seconds = round(time.monotonic() - self.started, 2)
        found = {"state": FAILED, "reason": reason_of(code, task.log, self.log_start)} if code else task.result()
        outcome = Outcome(task.source.name, task.source.location, str(task.log), seconds=seconds, **found)
        write_outcome(task.outcome, outcome)
        return outcome


def usable_cores() -> int:
    """The number of cores on which this process may run."""
    return len(os.sched_getaffinity(0))


def run_tasks(tasks: Sequence[Task], workers: int, what: str, preload: str | None = None) -> list[Outcome]:
    """Run all tasks and show the progress; a signal ends those that run and starts no others.

    A process is forked from a server that has loaded the libraries and nothing else, because a fork of this process
    could copy locks that its threads hold.

    Args:
        tasks: the tasks; at most `workers` of them run at a time.
        workers: number of processes.
        what: what is done, for the progress bar.
        preload: module that the server loads; default: none.

    Returns:
        The outcomes, in the order of the tasks.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload] if preload else [])
    with _safe_path():
        forkserver.ensure_running()
    waiting, done = list(reversed(tasks)), dict[Path, Outcome]()
    hidden = None if logger.isEnabledFor(logging.INFO) else True  # None: unless stderr is a terminal
    with _ending() as running, logging_redirect_tqdm(), tqdm(total=len(tasks), desc=what, disable=hidden) as bar:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(context, waiting.pop()))
            bar.set_postfix_str(", ".join(one.task.source.name for one in running))
            ended = wait([one.process.sentinel for one in running])
            for one in [one for one in running if one.process.sentinel in ended]:
                running.remove(one)
                outcome = done[one.task.log] = one.end()
                bar.update()
                level = logging.WARNING if outcome.state == FAILED else logging.INFO
                logger.log(level, "[%d/%d] %s", len(done), len(tasks), outcome.line())
    return [done[task.log] for task in tasks]


@contextmanager
def _safe_path() -> Iterator[None]:
    """Let a `python -c` that is started not import from the current folder, which may be a mined repository."""
    kept = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if kept is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = kept


@contextmanager
def _ending() -> Iterator[list[_Running]]:
    """Yield a list of running tasks, whose processes are ended with this context and waited for.

    Each saves what it has, as after a signal of its own. A second Ctrl-C kills them.
    """
    running = list[_Running]()
    try:
        yield running
    finally:
        for one in running:
            one.process.terminate()
        try:
            for one in running:
                one.process.join()
        except KeyboardInterrupt:
            for one in running:
                one.process.kill()
            raise


def _start(context: multiprocessing.context.ForkServerContext, task: Task) -> _Running:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("a", encoding="utf-8") as log:
        log.write(f"--- {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}\n")
        start = log.tell()
    process = context.Process(target=_work, args=(task.work, task.log.absolute(), Path.cwd()), name=task.source.name)
    process.start()
    return _Running(task, process, start)


def _work(work: Callable[[], None], log: Path, folder: Path) -> None:
    """Do the work of a task in its process, as a script does it whose output goes into the log."""
    if sys.platform == "linux":  # ends with the server, which ends with the process that started it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    with console():
        work()

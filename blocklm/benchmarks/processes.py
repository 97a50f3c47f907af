"""Runs commands and functions to their end in processes of their own, and measures their time and memory."""

import multiprocessing
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection


@dataclass(frozen=True, slots=True)
class ProcessRun:
    """One run of a command.

    Attributes:
        output: what it wrote to stdout and stderr.
        seconds: seconds from its start to its end.
        cpu_seconds: seconds of all processors, those of the processes that it started included.
        mebibytes: peak memory of the largest of these processes.
    """

    output: str
    seconds: float
    cpu_seconds: float
    mebibytes: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a function: seconds, and the peak of its memory above that of the imports, in mebibytes."""

    seconds: float
    mebibytes: float


def run_process(command: Sequence[str]) -> ProcessRun:
    """Run a command without a connection to the hub; its imports count.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        output.seek(0)
        text = output.read()
    if status:
        raise RuntimeError(f"`{' '.join(command[:3])}` failed: {text[-2000:]}")
    return ProcessRun(text, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def measure_in_process(case: Callable[..., None], *arguments: object) -> Measurement:
    """Run a function in a fresh process and measure it there, once everything is imported.

    Raises:
        RuntimeError: the function failed; its own traceback is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_measurement, args=(there, case, arguments))
    process.start()
    there.close()
    try:
        measured: Measurement = here.recv()
    except EOFError:
        raise RuntimeError(f"{case.__name__} failed") from None
    finally:
        process.join()
    return measured


def _send_measurement(answer: Connection, case: Callable[..., None], arguments: tuple[object, ...]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    case(*arguments)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.send(Measurement(seconds, (peak - before) / 1024))

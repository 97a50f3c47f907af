"""Runs a command to its end and measures the whole process, imports included."""

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass


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


def run_process(command: Sequence[str]) -> ProcessRun:
    """Run a command without a connection to the hub.

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

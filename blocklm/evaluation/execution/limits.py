"""Limits the resources of a command in the sandbox: the kernel limits each process, and a watch limits their sum."""

import math
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SMALL = 64 << 20  # bytes of the home folder, and of shared memory
TAIL = 4000
WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class ResourceLimits:
    """Limits of a command and all processes that it starts, together.

    Attributes:
        seconds: wall-clock time in seconds.
        memory: memory in bytes; pages that two processes share count for both.
        disk: size in bytes of its work tree and temporary files, which are in memory too.
        processes: number of processes and threads; 512 by default.
        output: bytes of its output; 16 MiB by default.
    """

    seconds: float
    memory: int
    disk: int
    processes: int = 512
    output: int = 16 << 20


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        ended: `exit` if it ended by itself, else the limit it exceeded: `timeout`, `memory` or `output`.
        returncode: its return code.
        tail: the end of its output, without control characters, so that it may be shown in a terminal.
    """

    ended: str
    returncode: int
    tail: str

    @property
    def passed(self) -> bool:
        """Whether it ended by itself with return code 0."""
        return self.ended == "exit" and self.returncode == 0


def kernel_limits(limits: ResourceLimits) -> list[str]:
    """Return the command prefix that sets the kernel's limits inside the sandbox, and makes it the first OOM victim.

    Inside, only the sandbox's own processes are counted.
    """
    # No RLIMIT_AS: Go, Java and Node reserve far more addresses than they use. The CPU limit adds nothing to the
    # clock's, but it still holds while this process is stopped and cannot watch the clock.
    bounds = {
        "nproc": limits.processes,
        "data": limits.memory,
        "fsize": limits.disk,
        "cpu": math.ceil(limits.seconds * (os.cpu_count() or 1)),
        "nofile": 4096,
        "core": 0,
    }
    return [
        *("choom", "-n", "1000", "--"),
        "prlimit",
        *(f"--{name}={value}:{value}" for name, value in bounds.items()),
        "--",
    ]


class Watch:
    """Reads the output of a process until it ends, and kills it if it exceeds a limit."""

    def __init__(self, process: subprocess.Popen[bytes], reading: int, limits: ResourceLimits) -> None:
        self._process, self._reading, self._limits = process, reading, limits
        self._tail, self._written = b"", 0
        self._started = self._checked = time.monotonic()
        self._shared_before = psutil.virtual_memory().shared

    def outcome(self) -> Outcome:
        """Wait for the end, or kill the process at a limit."""
        ended = self._wait()
        if ended != "exit":
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        text = self._tail.decode("utf-8", "replace")
        return Outcome(ended, code, "".join(char for char in text if char.isprintable() or char in "\n\t"))

    def _wait(self) -> str:
        reads = True
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while reads or self._process.poll() is None:
                if not reads:
                    time.sleep(WATCH_SECONDS)
                elif selector.select(WATCH_SECONDS):
                    reads = self._read()
                if exceeded := self._exceeded():
                    return exceeded
        return "exit"

    def _read(self) -> bool:
        data = os.read(self._reading, 1 << 16)
        self._written += len(data)
        self._tail = (self._tail + data)[-TAIL:]
        return bool(data)

    def _exceeded(self) -> str | None:
        if self._written > self._limits.output:
            return "output"
        now = time.monotonic()
        if now - self._started > self._limits.seconds:
            return "timeout"
        if now - self._checked > WATCH_SECONDS:
            self._checked = now
            return "memory" if self._holds_too_much() else None
        return None

    def _holds_too_much(self) -> bool:
        """Whether the processes' pages, or files in memory that no process maps, exceed the limit."""
        # Unmapped files belong to no process: they are the machine's total, minus what the sandbox's file systems hold.
        unmapped = psutil.virtual_memory().shared - self._shared_before - self._limits.disk - 2 * SMALL
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        return max(unmapped, sum(_own_bytes(process.pid) for process in family)) > self._limits.memory


def _own_bytes(pid: int) -> int:
    """Return a process's memory that no file backs: private pages, and anonymous shared ones."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))

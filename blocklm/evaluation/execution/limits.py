"""What a command in the sandbox may use: limits that the kernel holds for each process, and a watch that holds their sum."""

import math
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SMALL = 64 << 20  # bytes of a home and of shared memory
TAIL = 4000
WATCH_SECONDS = 0.1


@dataclass(frozen=True)
class ResourceLimits:
    """What a command and all that it starts may use together.

    Args:
        seconds: by the clock.
        memory: bytes; pages that two processes share count for both.
        disk: bytes of its work tree and temporary files, which stand in memory too.
        processes: and threads.
        output: bytes it may write to its output.
    """

    seconds: float
    memory: int
    disk: int
    processes: int = 512
    output: int = 16 << 20


@dataclass(frozen=True)
class Outcome:
    """How it ended: by itself with a return code, or stopped for its `timeout`, `memory` or `output`.

    `tail` is the end of what it wrote, without control characters: it may be shown in a terminal.
    """

    ended: str
    returncode: int
    tail: str

    @property
    def passed(self) -> bool:
        """Whether it ended by itself and said that all is well."""
        return self.ended == "exit" and self.returncode == 0


def kernel_limits(limits: ResourceLimits) -> list[str]:
    """Set inside, where only its own processes are counted; the machine's memory killer is to take it first."""
    # Reserved addresses are not counted as RLIMIT_AS does: Go, Java and Node reserve far more than they use. The processor's
    # time says no more than the clock does, but holds when this process is stopped and cannot look at the clock.
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
    """Reads what a process writes, and says when it has ended or exceeded a limit."""

    def __init__(self, process: subprocess.Popen[bytes], reading: int, limits: ResourceLimits) -> None:
        self._process, self._reading, self._limits = process, reading, limits
        self._tail, self._written = b"", 0
        self._begun = self._looked = time.monotonic()
        self._shared_before = psutil.virtual_memory().shared

    def outcome(self) -> Outcome:
        """Wait for the end, or bring it about."""
        ended = self._ended()
        if ended != "exit":
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        text = self._tail.decode("utf-8", "replace")
        return Outcome(ended, code, "".join(char for char in text if char.isprintable() or char in "\n\t"))

    def _ended(self) -> str:
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
        if now - self._begun > self._limits.seconds:
            return "timeout"
        if now - self._looked > WATCH_SECONDS:
            self._looked = now
            return "memory" if self._holds_too_much() else None
        return None

    def _holds_too_much(self) -> bool:
        """Whether their pages, or files in memory that no process maps, are too many."""
        # Such files belong to nobody: the machine's sum is looked at, less what its file systems may hold.
        unmapped = psutil.virtual_memory().shared - self._shared_before - self._limits.disk - 2 * SMALL
        try:
            family = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return False
        return max(unmapped, sum(_own_bytes(one.pid) for one in family)) > self._limits.memory


def _own_bytes(pid: int) -> int:
    """Of a process's memory what is no file's: its own, and what it shares without a name."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))

"""Reads the operating system's counters for this process, its children and the machine."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from blocklm.formatting import MIB

NOT_BUSY = ("idle", "iowait", "guest", "guest_nice")  # Linux counts the last two in `user` and `nice` already


class Machine:
    """Samples processor, memory, disk and network.

    Rates are means since the last sample, and missing from the first. Names with `process_` cover this process and its
    children, such as workers that load data. The system keeps no network counters per process.

    Args:
        folder: the run's output directory, of whose disk the free space is read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
        self._process = psutil.Process()
        self._before: dict[str, float] = {}
        self._when = 0.0

    def pids(self) -> list[int]:
        """Return the ids of this process and its children, and of those that the same launcher started here."""
        launched = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1
        parent = self._process.parent() if launched else None
        return [self._process.pid, *(child.pid for child in (parent or self._process).children(recursive=True))]

    def sample(self) -> dict[str, float]:
        """Read all values."""
        memory = psutil.virtual_memory()
        family = [self._process, *self._process.children(recursive=True)]
        return {
            **self._rates(_machine_counters() | _process_counters(family)),
            "ram_used_mib": (memory.total - memory.available) / MIB,
            "ram_percent": memory.percent,
            "swap_used_mib": psutil.swap_memory().used / MIB,
            "disk_free_gib": psutil.disk_usage(str(self._folder)).free / (1 << 30),
            "process_ram_mib": sum(_value_of(process, lambda it: it.memory_info().rss) for process in family) / MIB,
        }

    def _rates(self, counters: dict[str, float]) -> dict[str, float]:
        now = time.monotonic()
        before, seconds = self._before, now - self._when
        self._before, self._when = counters, now
        # A counter falls when a child ends; that is no negative rate.
        return {name: max(0.0, (value - before[name]) / seconds) for name, value in counters.items() if name in before}


def _machine_counters() -> dict[str, float]:
    times = psutil.cpu_times()
    idle = sum(getattr(times, name, 0.0) for name in NOT_BUSY)
    counters = {"cpu_percent": 100 * (sum(times) - idle) / (psutil.cpu_count() or 1)}
    if disks := psutil.disk_io_counters():
        counters |= {"disk_read_mib_per_s": disks.read_bytes / MIB, "disk_write_mib_per_s": disks.write_bytes / MIB}
    if network := psutil.net_io_counters():
        counters |= {
            "network_received_mib_per_s": network.bytes_recv / MIB,
            "network_sent_mib_per_s": network.bytes_sent / MIB,
        }
    return counters


def _process_counters(family: list[psutil.Process]) -> dict[str, float]:
    """Sum the counters of a family of processes; CPU is in percent of one core, so two busy cores give 200."""
    return {
        "process_cpu_percent": 100 * sum(_value_of(process, lambda it: sum(it.cpu_times()[:4])) for process in family),
        "process_disk_read_mib_per_s": sum(_value_of(it, lambda it: it.io_counters().read_bytes) for it in family)
        / MIB,
        "process_disk_write_mib_per_s": sum(_value_of(it, lambda it: it.io_counters().write_bytes) for it in family)
        / MIB,
    }


def _value_of(process: psutil.Process, read: Callable[[psutil.Process], float]) -> float:
    """Read a value of a process; 0 if the process has ended or may not be read."""
    with suppress(psutil.Error):
        return read(process)
    return 0.0

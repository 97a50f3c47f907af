"""Series are read at an even pace and summarised correctly."""

import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from blocklm.training.monitoring.sampler import BackgroundSampler
from blocklm.training.monitoring.system import Machine


def test_samples_become_means_and_a_summary() -> None:
    values = iter([1.0, 2.0, 6.0])
    seen = threading.Semaphore(0)

    def source() -> dict[str, float]:
        value = next(values, None)
        seen.release()
        return {} if value is None else {"ram_mib": value}

    gauges = BackgroundSampler([source], 0.01)
    gauges.start()
    assert gauges.means() == {"ram_mib": 1.0}
    for _ in range(5):
        seen.acquire()
    gauges.stop()
    assert gauges.means() == {"ram_mib": 4.0}
    assert gauges.means() == {}, "nothing new, and the newest sample lacks it"
    usage = gauges.usage()
    expected = {"min": 1.0, "mean": 3.0, "max": 6.0, "p95": round(float(np.percentile([1, 2, 6], 95)), 3)}
    assert usage["series"] == {"ram_mib": expected}
    assert usage["samples"] >= 5
    assert usage["interval_seconds"] == 0.01


def test_a_source_that_fails_is_dropped_while_the_others_are_sampled(caplog: pytest.LogCaptureFixture) -> None:
    seen = threading.Semaphore(0)

    def works() -> dict[str, float]:
        seen.release()
        return {"a": 1.0}

    def fails() -> dict[str, float]:
        raise OSError("the sensor is gone")

    gauges = BackgroundSampler([fails, works], 0.01)
    gauges.start()
    for _ in range(3):
        seen.acquire()
    gauges.stop()
    assert gauges.latest == {"a": 1.0}
    assert [record.getMessage() for record in caplog.records] == [
        "hardware is no longer read in full: OSError: the sensor is gone"
    ]


def test_readings_of_the_machine_are_right(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "not" / "there" / "yet")
    first = machine.sample()
    assert "process_cpu_percent" not in first, "a rate needs two looks"
    held = bytearray(b"\1") * (64 << 20)
    (tmp_path / "file").write_bytes(held)
    while sum(psutil.Process().cpu_times()[:2]) < 0.1:
        pass
    second = machine.sample()
    assert second["process_ram_mib"] - first["process_ram_mib"] > 50
    assert second["process_cpu_percent"] > 0
    assert second["process_disk_write_mib_per_s"] >= 0
    assert 0 < second["ram_percent"] < 100
    assert second["disk_free_gib"] == pytest.approx(psutil.disk_usage(str(tmp_path)).free / (1 << 30), rel=0.05)
    assert len(held) == 64 << 20

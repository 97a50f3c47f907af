"""GPUs are read through the real ctypes path, from a small library compiled here in the driver's place."""

import json
import os
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_nvml import fake_nvml, gpu

READ = """
import json, logging, os, sys
logging.basicConfig(format="%(message)s")
from blocklm.training.monitoring.nvml import Gpus, NoGpus, process_memory
uuids, states = json.loads(sys.argv[1]), json.loads(sys.argv[2])
samples = []
for state in states:
    open(os.environ["FAKE_NVML_STATE"], "w").write(state)
    try:
        gpus = gpus if samples else Gpus(uuids)
        samples.append(gpus.sample() | process_memory(gpus, [os.getpid()]))
    except NoGpus as reason:
        samples.append(str(reason))
print(json.dumps({"samples": samples, "entry": gpus.entry() if "gpus" in globals() else None}))
"""


def read(library: Path | None, folder: Path, *states: str, uuids: list[str] | None = None) -> tuple[Any, str]:
    """Sample each state once, in a process that loads the library in place of the driver's."""
    environment = os.environ | {"FAKE_NVML_STATE": str(folder / "state"), "LD_LIBRARY_PATH": str(library or folder)}
    command = [sys.executable, "-c", READ, json.dumps(uuids), json.dumps(states)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), done.stderr


def test_every_value_arrives_with_its_unit(tmp_path: Path) -> None:
    later = gpu(util=40, millijoules=7_200_000, reasons=0x4 | 0x20)
    found, warnings = read(fake_nvml(tmp_path), tmp_path, gpu(millijoules=3_600_000, reasons=0x8), later)
    assert found["samples"][0] == {
        "gpu_util_percent": 87, "gpu_memory_util_percent": 43, "gpu_memory_used_mib": 3072.0, "gpu_memory_percent": 50.0,
        "gpu_temp_c": 71, "gpu_power_w": 160.5, "gpu_sm_clock_mhz": 1680, "gpu_memory_clock_mhz": 7001,
        "gpu_slowed_by_heat_percent": 0.0, "gpu_slowed_by_power_percent": 0.0, "gpu_slowed_by_hardware_percent": 100.0,
        "gpu_energy_wh": 0.0, "gpu_process_memory_mib": 1536.0,
    }  # fmt: skip
    changed = {
        "gpu_util_percent": 40, "gpu_memory_util_percent": 20, "gpu_slowed_by_heat_percent": 100.0,
        "gpu_slowed_by_power_percent": 100.0, "gpu_slowed_by_hardware_percent": 0.0, "gpu_energy_wh": 1.0,
    }  # fmt: skip
    assert found["samples"][1] == found["samples"][0] | changed
    assert found["entry"] == [{"series": "gpu", "name": "Fake 0", "memory_mib": 6144, "driver": "999.1"}]
    assert not warnings


def test_a_lost_gpu_is_left_out_while_the_others_are_read(tmp_path: Path) -> None:
    both, one = gpu(celsius=60) + gpu(celsius=61), gpu(celsius=62) + gpu(mode="lost")
    found, warnings = read(fake_nvml(tmp_path), tmp_path, both, one, both)
    temperatures = [{name: value for name, value in sample.items() if "temp" in name} for sample in found["samples"]]
    assert temperatures == [{"gpu0_temp_c": 60, "gpu1_temp_c": 61}, {"gpu0_temp_c": 62}, {"gpu0_temp_c": 60}]
    assert warnings == "gpu1 (Fake 1) is no longer read: GPU is lost\n"


def test_a_reading_that_a_gpu_lacks_is_left_out_until_it_appears(tmp_path: Path) -> None:
    found, warnings = read(fake_nvml(tmp_path), tmp_path, gpu(mode="no-utilisation"), gpu())
    silent, telling = found["samples"]
    assert set(telling) - set(silent) == {"gpu_util_percent", "gpu_memory_util_percent"}
    assert not warnings


def test_an_older_driver_is_read_by_its_older_function_names(tmp_path: Path) -> None:
    found, _ = read(fake_nvml(tmp_path, "-DOLD"), tmp_path, gpu(celsius=65, reasons=0x40))
    assert found["samples"][0]["gpu_temp_c"] == 65
    assert found["samples"][0]["gpu_slowed_by_heat_percent"] == 100.0


def test_only_the_gpus_that_the_run_sees_are_read(tmp_path: Path) -> None:
    found, _ = read(fake_nvml(tmp_path), tmp_path, gpu(celsius=50) + gpu(celsius=51), uuids=["GPU-fake-1"])
    assert found["samples"][0]["gpu_temp_c"] == 51
    assert found["entry"][0]["name"] == "Fake 1"


def test_a_driver_without_a_gpu_is_reported(tmp_path: Path) -> None:
    found, _ = read(fake_nvml(tmp_path), tmp_path, "")
    assert found["samples"] == ["the driver sees none"]


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has a driver")
def test_without_a_driver_the_reason_is_logged(tmp_path: Path) -> None:
    found, _ = read(None, tmp_path, "")
    assert found["samples"] == ["NVML Shared Library Not Found"]

"""Reads NVIDIA GPUs through NVML; a value that a GPU or driver does not give is left out, never made up."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pynvml

from blocklm.formatting import MIB

logger = logging.getLogger(__name__)

MILLIJOULES_PER_WH = 3_600_000
# Reasons for clocks below the requested ones. `HwSlowdown` means heat or power, without saying which.
HEAT = pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown
POWER = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
SLOWED = {"heat": HEAT, "power": POWER, "hardware": pynvml.nvmlClocksEventReasonHwSlowdown}
# After these errors a device answers no call until the machine or its driver restarts.
GONE = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)


@dataclass(slots=True)
class Gpu:
    """One GPU as NVML sees it; the names of its series begin with `prefix`."""

    handle: Any
    prefix: str
    name: str
    memory_mib: int
    first_energy: float | None = None


class Gpus:
    """The GPUs of a run, read through NVML.

    Args:
        uuids: UUIDs of the GPUs that the run sees, in its order, because NVML ignores `CUDA_VISIBLE_DEVICES`; None
            for all GPUs.

    Raises:
        NoGpus: there is no driver or no GPU.
    """

    def __init__(self, uuids: list[str] | None = None) -> None:
        try:
            pynvml.nvmlInit()
            handles = [_handle(uuid) for uuid in uuids] if uuids else _all_handles()
            if not handles:
                raise NoGpus("the driver sees none")
            prefixes = ["gpu"] if len(handles) == 1 else [f"gpu{number}" for number in range(len(handles))]
            self.present = [_describe(handle, prefix) for handle, prefix in zip(handles, prefixes, strict=True)]
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            raise NoGpus(str(error)) from error

    def entry(self) -> list[dict[str, Any]]:
        """Return the fixed properties of each GPU, for the manifest."""
        return [
            {"series": gpu.prefix, "name": gpu.name, "memory_mib": gpu.memory_mib, "driver": self.driver}
            for gpu in self.present
        ]

    def sample(self) -> dict[str, float]:
        """Read all GPUs; one that is lost is reported once and not read again."""
        values: dict[str, float] = {}
        for gpu in list(self.present):
            try:
                values |= {f"{gpu.prefix}_{name}": value for name, value in _read(gpu).items()}
            except _LostGpu as lost:
                self.present.remove(gpu)
                logger.warning("%s (%s) is no longer read: %s", gpu.prefix, gpu.name, lost)
        return values


class NoGpus(Exception):
    """NVML finds no GPU; the message says why."""


class _LostGpu(Exception):
    """The GPU answers no call any more."""


def _handle(uuid: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def _all_handles() -> list[Any]:
    return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]


def _describe(handle: Any, prefix: str) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
    return Gpu(handle, prefix, str(pynvml.nvmlDeviceGetName(handle)), memory)


def _read(gpu: Gpu) -> dict[str, float]:
    values: dict[str, float] = {}
    for read in READINGS:
        try:
            values |= read(gpu)
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise _LostGpu(str(error)) from error
    return values


def _utilisation(gpu: Gpu) -> dict[str, float]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(gpu.handle)
    return {"util_percent": rates.gpu, "memory_util_percent": rates.memory}


def _memory(gpu: Gpu) -> dict[str, float]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(gpu.handle)
    return {"memory_used_mib": memory.used / MIB, "memory_percent": 100 * memory.used / memory.total}


def _temperature(gpu: Gpu) -> dict[str, float]:
    new, old = pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetTemperature
    return {"temp_c": _call_new_or_old(new, old, gpu.handle, pynvml.NVML_TEMPERATURE_GPU)}


def _power(gpu: Gpu) -> dict[str, float]:
    return {"power_w": pynvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000}


def _clocks(gpu: Gpu) -> dict[str, float]:
    clock = pynvml.nvmlDeviceGetClockInfo
    return {
        "sm_clock_mhz": clock(gpu.handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": clock(gpu.handle, pynvml.NVML_CLOCK_MEM),
    }


def _slowed(gpu: Gpu) -> dict[str, float]:
    """Return 100 for each reason that slows the clocks now, so that the mean is a percentage of the time."""
    new, old = pynvml.nvmlDeviceGetCurrentClocksEventReasons, pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
    reasons = int(_call_new_or_old(new, old, gpu.handle))
    return {f"slowed_by_{name}_percent": 100.0 * bool(reasons & bits) for name, bits in SLOWED.items()}


def _energy(gpu: Gpu) -> dict[str, float]:
    """Return the energy used since the first sample."""
    now = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
    gpu.first_energy = now if gpu.first_energy is None else gpu.first_energy
    return {"energy_wh": (now - gpu.first_energy) / MILLIJOULES_PER_WH}


READINGS: tuple[Callable[[Gpu], dict[str, float]], ...] = (
    _utilisation,
    _memory,
    _temperature,
    _power,
    _clocks,
    _slowed,
    _energy,
)


def _call_new_or_old(new: Callable[..., float], old: Callable[..., float], *arguments: Any) -> float:
    """Call the current function, or the old one if the driver lacks it; CUDA 14 drops the old names."""
    try:
        return new(*arguments)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
    return old(*arguments)


def process_memory(gpus: Gpus, pids: Iterable[int]) -> dict[str, float]:
    """Sum the memory of some processes on each GPU; left out if the driver does not see them, as in a container."""
    own, memory = set(pids), {}
    for gpu in gpus.present:
        try:
            used = [
                process.usedGpuMemory
                for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu.handle)
                if process.pid in own and process.usedGpuMemory is not None
            ]
        except pynvml.NVMLError:
            continue
        if used:
            memory[f"{gpu.prefix}_process_memory_mib"] = sum(used) / MIB
    return memory

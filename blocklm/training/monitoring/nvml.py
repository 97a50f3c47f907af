"""What NVIDIA's driver tells of its GPUs; a value that a GPU or driver does not tell is left out, never made up."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pynvml

from blocklm.formatting import MIB

logger = logging.getLogger(__name__)

MILLIJOULES_PER_WH = 3_600_000
# Why the clocks are below what was asked for. `HwSlowdown` says heat or power without saying which.
HEAT = pynvml.nvmlClocksEventReasonSwThermalSlowdown | pynvml.nvmlClocksEventReasonHwThermalSlowdown
POWER = pynvml.nvmlClocksEventReasonSwPowerCap | pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown
SLOWED = {"heat": HEAT, "power": POWER, "hardware": pynvml.nvmlClocksEventReasonHwSlowdown}
# After these a device answers nothing more before the machine or its driver starts again.
GONE = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)


@dataclass(slots=True)
class Gpu:
    """One GPU as NVML sees it; `prefix` begins the names of its series."""

    handle: Any
    prefix: str
    name: str
    memory_mib: int
    first_energy: float | None = None


class Gpus:
    """The GPUs of a run, read through NVML.

    Args:
        uuids: of those that the run sees, in its order; None reads all, because NVML knows nothing of
            `CUDA_VISIBLE_DEVICES`.

    Raises:
        NoGpus: no driver, or no GPU.
    """

    def __init__(self, uuids: list[str] | None = None) -> None:
        try:
            pynvml.nvmlInit()
            handles = [_handle(uuid) for uuid in uuids] if uuids else _all_handles()
            if not handles:
                raise NoGpus("the driver sees none")
            prefixes = ["gpu"] if len(handles) == 1 else [f"gpu{number}" for number in range(len(handles))]
            self.present = [_described(handle, prefix) for handle, prefix in zip(handles, prefixes, strict=True)]
            self.driver = str(pynvml.nvmlSystemGetDriverVersion())
        except pynvml.NVMLError as error:
            raise NoGpus(str(error)) from error

    def entry(self) -> list[dict[str, Any]]:
        """What is fixed of each, for the manifest."""
        return [
            {"series": gpu.prefix, "name": gpu.name, "memory_mib": gpu.memory_mib, "driver": self.driver}
            for gpu in self.present
        ]

    def sample(self) -> dict[str, float]:
        """Read all; a GPU that is lost is not asked again, one warning says so."""
        found: dict[str, float] = {}
        for gpu in list(self.present):
            try:
                found |= {f"{gpu.prefix}_{name}": value for name, value in _read(gpu).items()}
            except _Lost as lost:
                self.present.remove(gpu)
                logger.warning("%s (%s) is no longer read: %s", gpu.prefix, gpu.name, lost)
        return found


class NoGpus(Exception):
    """There is nothing that NVML could read; says why."""


class _Lost(Exception):
    """The device is gone for good."""


def _handle(uuid: str) -> Any:
    return pynvml.nvmlDeviceGetHandleByUUID(uuid)


def _all_handles() -> list[Any]:
    return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]


def _described(handle: Any, prefix: str) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total // MIB
    return Gpu(handle, prefix, str(pynvml.nvmlDeviceGetName(handle)), memory)


def _read(gpu: Gpu) -> dict[str, float]:
    found: dict[str, float] = {}
    for read in READINGS:
        try:
            found |= read(gpu)
        except pynvml.NVMLError as error:
            if error.value in GONE:
                raise _Lost(str(error)) from error
    return found


def _utilisation(gpu: Gpu) -> dict[str, float]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(gpu.handle)
    return {"util_percent": rates.gpu, "memory_util_percent": rates.memory}


def _memory(gpu: Gpu) -> dict[str, float]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(gpu.handle)
    return {"memory_used_mib": memory.used / MIB, "memory_percent": 100 * memory.used / memory.total}


def _temperature(gpu: Gpu) -> dict[str, float]:
    new, old = pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetTemperature
    return {"temp_c": _either(new, old, gpu.handle, pynvml.NVML_TEMPERATURE_GPU)}


def _power(gpu: Gpu) -> dict[str, float]:
    return {"power_w": pynvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000}


def _clocks(gpu: Gpu) -> dict[str, float]:
    clock = pynvml.nvmlDeviceGetClockInfo
    return {
        "sm_clock_mhz": clock(gpu.handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": clock(gpu.handle, pynvml.NVML_CLOCK_MEM),
    }


def _slowed(gpu: Gpu) -> dict[str, float]:
    """100 where the clocks are held down now, so that a mean is the share of the time."""
    new, old = pynvml.nvmlDeviceGetCurrentClocksEventReasons, pynvml.nvmlDeviceGetCurrentClocksThrottleReasons
    reasons = int(_either(new, old, gpu.handle))
    return {f"slowed_by_{name}_percent": 100.0 * bool(reasons & bits) for name, bits in SLOWED.items()}


def _energy(gpu: Gpu) -> dict[str, float]:
    """Used since the first sample."""
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


def _either(new: Callable[..., float], old: Callable[..., float], *arguments: Any) -> float:
    """Ask as current drivers do, and as older ones did only where the function is missing: CUDA 14 drops the old names."""
    try:
        return new(*arguments)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
    return old(*arguments)


def process_memory(gpus: Gpus, pids: Iterable[int]) -> dict[str, float]:
    """Memory that some processes hold on each GPU; left out where the driver does not see them, as in a container."""
    own, found = set(pids), {}
    for gpu in gpus.present:
        try:
            held = [
                process.usedGpuMemory
                for process in pynvml.nvmlDeviceGetComputeRunningProcesses_v3(gpu.handle)
                if process.pid in own and process.usedGpuMemory is not None
            ]
        except pynvml.NVMLError:
            continue
        if held:
            found[f"{gpu.prefix}_process_memory_mib"] = sum(held) / MIB
    return found

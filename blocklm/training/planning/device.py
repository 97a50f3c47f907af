"""Describes the GPU or CPU of a run, and how much of its memory tensors may take."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from blocklm.errors import UserError
from blocklm.formatting import GIB

if TYPE_CHECKING:
    from blocklm.training.planning.measurement import Calibration

# Memory that the driver, cuBLAS and the kernels of PyTorch and bitsandbytes hold beside tensors. Assumed, not measured;
# on a real device the plan counts the memory that is free once they are loaded.
CONTEXT = GIB // 2
MARGIN = 0.08  # share of the memory that is left for gaps between tensors
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(GiB|GB|MiB|MB)")
UNITS = {"GiB": GIB, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6}


@dataclass(frozen=True, slots=True)
class Device:
    """The device of a run.

    Attributes:
        name: the device's name for messages.
        gpu: whether it is a GPU.
        total: its memory in bytes.
        budget: bytes that tensors may take.
    """

    name: str
    gpu: bool
    total: int
    budget: int


def this_device(calibration: "Calibration | None" = None, limit: int | None = None) -> Device:
    """Describe the GPU of this process, or the CPU and its free memory.

    Args:
        calibration: what was measured on this device; None to assume what is usual.
        limit: most bytes that tensors and the gaps between them may take; None for all that is free.
    """
    import torch  # heavy, and not needed to plan for a GPU of a given size

    gaps = MARGIN if calibration is None or calibration.gaps is None else calibration.gaps
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        if calibration is not None and calibration.context is not None:
            free = min(free, total - calibration.context)
        free = free if limit is None else min(free, limit)
        return Device(torch.cuda.get_device_name(), True, total, int(free * (1 - gaps)))
    memory = psutil.virtual_memory()
    free = memory.available if limit is None else min(memory.available, limit)
    return Device("CPU", False, memory.total, int(free * (1 - gaps)))


def device_name() -> str:
    """Name this process's device, as measurements of it are kept by."""
    import torch

    if not torch.cuda.is_available():
        return f"CPU, {torch.get_num_threads()} threads"
    major, minor = torch.cuda.get_device_capability()
    return f"{torch.cuda.get_device_name()} (sm_{major}{minor})"


def gpu_of(size: str) -> Device:
    """Describe an otherwise empty GPU with `size` of memory, such as `6GiB`.

    Raises:
        UserError: `size` is not a number with a unit.
    """
    total = bytes_in(size, "--gpu_memory")
    return Device(f"a GPU with {size}", True, total, int((total - CONTEXT) * (1 - MARGIN)))


def bytes_in(size: str, flag: str) -> int:
    """Read a size such as `6GiB`, the value of a flag.

    Raises:
        UserError: `size` is not a number with a unit.
    """
    match = SIZE.fullmatch(size.strip())
    if match is None:
        raise UserError(f"`{flag}` is no size: {size!r}", "write it as 6GiB or 6000MB")
    return int(float(match[1]) * UNITS[match[2]])

"""The GPU or CPU that a run is for, and how much of its memory tensors may take."""

import re
from dataclasses import dataclass

import psutil
import torch

from blocklm.errors import UserError
from blocklm.formatting import GIB

# What the driver, cuBLAS and the kernels of PyTorch and bitsandbytes hold beside tensors. Assumed, not measured by us; on a
# device that is there the plan counts what is free once they are loaded.
CONTEXT = GIB // 2
MARGIN = 0.08  # of the memory, for the gaps between tensors
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(GiB|GB|MiB|MB)")
UNITS = {"GiB": GIB, "GB": 10**9, "MiB": 1 << 20, "MB": 10**6}


@dataclass(frozen=True, slots=True)
class Device:
    """Where a run is to happen: `budget` is what its tensors may take, in bytes."""

    name: str
    gpu: bool
    total: int
    budget: int


def this_device() -> Device:
    """The GPU of this process, or the CPU and its free memory."""
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Device(torch.cuda.get_device_name(), True, total, int(free * (1 - MARGIN)))
    memory = psutil.virtual_memory()
    return Device("CPU", False, memory.total, int(memory.available * (1 - MARGIN)))


def gpu_of(size: str) -> Device:
    """A GPU with so much memory, such as `6GiB`, and nothing else on it.

    Raises:
        UserError: no such size.
    """
    found = SIZE.fullmatch(size.strip())
    if found is None:
        raise UserError(f"`--gpu_memory` is no size: {size!r}", "write it as 6GiB or 6000MB")
    total = int(float(found[1]) * UNITS[found[2]])
    return Device(f"a GPU with {size}", True, total, int((total - CONTEXT) * (1 - MARGIN)))

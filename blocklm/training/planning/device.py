"""Describes the GPU or CPU of a run, and how much of its memory tensors may take."""

import re
from dataclasses import dataclass

import psutil

from blocklm.errors import UserError
from blocklm.formatting import GIB

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


def this_device() -> Device:
    """Describe the GPU of this process, or the CPU and its free memory."""
    import torch  # heavy, and not needed to plan for a GPU of a given size

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Device(torch.cuda.get_device_name(), True, total, int(free * (1 - MARGIN)))
    memory = psutil.virtual_memory()
    return Device("CPU", False, memory.total, int(memory.available * (1 - MARGIN)))


def gpu_of(size: str) -> Device:
    """Describe an otherwise empty GPU with `size` of memory, such as `6GiB`.

    Raises:
        UserError: `size` is not a number with a unit.
    """
    match = SIZE.fullmatch(size.strip())
    if match is None:
        raise UserError(f"`--gpu_memory` is no size: {size!r}", "write it as 6GiB or 6000MB")
    total = int(float(match[1]) * UNITS[match[2]])
    return Device(f"a GPU with {size}", True, total, int((total - CONTEXT) * (1 - MARGIN)))

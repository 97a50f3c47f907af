"""A process with too little memory: the kernel refuses allocations beyond a limit."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

MIB = 1 << 20
UNLIMITED = resource.getrlimit(resource.RLIMIT_AS)


def leave(extra: int) -> list[torch.Tensor]:
    """Let this process have so many more bytes and not one beyond; PyTorch's allocator then fails as on a full device.

    What glibc keeps free inside its heap after earlier tests would come on top: the tensors that are returned hold it.
    """
    held = []
    _limit(4 * MIB)
    for size in (32 * MIB, 2 * MIB, MIB // 8):
        with suppress(RuntimeError):
            while True:
                held.append(torch.empty(size, dtype=torch.uint8))
    _limit(extra)
    return held


def _limit(extra: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, UNLIMITED[1]))


@contextmanager
def memory_left(extra: int) -> Iterator[None]:
    """Limit the memory of this process within this context."""
    held = leave(extra)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
        del held

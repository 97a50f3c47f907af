"""Tells glibc's allocator to keep the memory that tensors free, because each training step asks for the same again.

By default glibc returns blocks of more than 32 MiB to the kernel at once. On a CPU each step then pays for hundreds of
thousands of page faults, a fifth to a third of its time.
"""

import ctypes
import os
import sys

import torch

# Parameters of mallopt(3). A trim threshold of -1 is the largest: memory at the top of the heap is never returned.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Keep freed memory for the rest of the process, if models compute on the CPU and the allocator is glibc's.

    Call it before the first model is loaded. A user's own `MALLOC_*` variables are left alone.
    """
    if torch.cuda.is_available() or sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, -1)

"""Tells glibc's allocator to keep the memory that tensors free, because the next training step asks for it again.

By default glibc returns memory at the end of its heap to the kernel, and a CPU then spends a part of each step on page
faults. Blocks of 32 MiB and more still go back at once: kept, they would fragment the heap, and the peak of a whole run
with rows of all lengths rose from 5 to 9 GiB.
"""

import ctypes
import os
import sys

import torch

# Parameters of mallopt(3) and our values in bytes; 32 MiB is the largest threshold that glibc takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT, RETURNED_BLOCK = 1 << 29, 1 << 25


def keep_freed_memory() -> None:
    """Keep freed memory for the rest of the process, if models compute on the CPU and the allocator is glibc's.

    Call it before the first model is loaded. A user's own `MALLOC_*` variables are left alone.
    """
    if torch.cuda.is_available() or sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(M_MMAP_THRESHOLD, RETURNED_BLOCK)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)

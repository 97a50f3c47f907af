"""A process that computes on the CPU keeps the memory that tensors free."""

import subprocess
import sys

import pytest

from tests.support.scripts import script_environment

PROGRAM = """
import resource, sys
import torch
from blocklm.models.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    [torch.ones(16 << 20, dtype=torch.uint8) for _ in range(16)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = [faults() for _ in range(25)]  # glibc may take some rounds until the blocks it keeps fit
print(counts[24] - counts[19])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc's allocator is configured")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    """A tensor of 64 MiB takes 16,384 pages; five of them are counted."""

    def page_faults(mode: str, **environment: str) -> int:
        command = [sys.executable, "-c", PROGRAM, mode]
        result = subprocess.run(
            command, env=script_environment() | environment, capture_output=True, text=True, check=True
        )
        return int(result.stdout)

    assert page_faults("keep") < 1000
    assert page_faults("default") > 5 * 65_536 / 8, "huge pages of 2 MiB may take some"
    assert page_faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 1000, "a user's own setting is left alone"

"""Memory that steps have freed goes back to the system."""

import platform
from pathlib import Path

import psutil
import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from blocklm.training.callbacks.freed_memory import FreedMemoryCallback

BLOCK, BLOCKS = 60_000, 4000  # bytes: smaller than what the C library returns by itself


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_blocks_freed_between_living_ones_go_back_at_a_log(tmp_path: Path) -> None:
    callback, process = FreedMemoryCallback(), psutil.Process()
    blocks = [bytearray(b"x" * BLOCK) for _ in range(BLOCKS)]
    living = blocks[::50]
    del blocks
    before = process.memory_info().rss
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to=[])
    callback.on_log(args, TrainerState(), TrainerControl())
    assert before - process.memory_info().rss > 0.5 * BLOCK * BLOCKS
    assert all(block[-1] == ord("x") for block in living)

"""Computes logits only at the positions that are trained on, on a CPU too, and there in tiles that its cache holds."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import torch
from trl.trainer import utils

CPU_TILE = 1024  # columns of the vocabulary


@contextmanager
def lean_head() -> Iterator[None]:
    """Let TRL's fused head leave out positions without a label, and use small tiles on a CPU.

    TRL 1.x leaves positions out where Triton runs, and elsewhere computes every one, for compilers that need fixed
    shapes. Two thirds of the positions of edit samples are prompt, and their logits were a third of a step on a CPU.
    TRL's tile is 32,768 columns wide. A dozen operations pass over it, each through the main memory: for 1,000
    positions of the embedded model they took twice as long as with tiles of 1,024.
    """
    tiles = (
        nullcontext() if torch.cuda.is_available() else patch.object(utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", CPU_TILE)
    )
    with patch.object(utils, "_use_triton", lambda device: True), tiles:
        yield

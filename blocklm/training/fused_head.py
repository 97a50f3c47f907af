"""Computes logits only at the positions that are trained on, on a CPU too."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from trl.trainer import utils


@contextmanager
def labelled_positions_only() -> Iterator[None]:
    """Let TRL's fused head leave out positions without a label, whatever the device.

    TRL 1.x does so where Triton runs, and elsewhere computes every position, for compilers that need fixed shapes. Two
    thirds of the positions of edit samples are prompt, and their logits were a third of a step on a CPU.
    """
    with patch.object(utils, "_use_triton", lambda device: True):
        yield

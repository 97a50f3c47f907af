"""Which of PyTorch's attention kernels run, so that memory stays linear in the length on cards before Ampere too."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.integrations import sdpa_attention

from blocklm.errors import UserError
from blocklm.models.precision import NATIVE_BF16

# PyTorch's kernels of `scaled_dot_product_attention` by the name that `plan.py --sdpa_kernel` takes.
KERNELS = {
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
NO_KERNEL = ("No available kernel", "No viable backend")  # in PyTorch's messages, of a GPU and of a CPU


def repeat_grouped_heads() -> None:
    """Before Ampere, give attention a key and a value for each head of the query, as its one efficient kernel needs.

    Where attention has no mask, transformers leaves grouped heads to PyTorch, of whose kernels only flash attention and
    the plain one take them. Turing has no flash attention, and the plain one's memory grows with the square of the
    length. Read in the sources of PyTorch and transformers 5.23; not yet measured on such a card.
    """
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < NATIVE_BF16:
        sdpa_attention.use_gqa_in_sdpa = lambda *_: False


@contextmanager
def only_kernel(name: str | None) -> Iterator[None]:
    """Allow attention only one of PyTorch's kernels within this context, so that it is certain which one ran.

    Args:
        name: one of `KERNELS`; None to leave the choice to PyTorch.

    Raises:
        UserError: the kernel cannot compute what the model asks of it on this device.
    """
    if name is None:
        yield
        return
    repeats = name == "efficient"  # as on the cards for which it is the only one
    heads: AbstractContextManager[Any] = (
        patch.object(sdpa_attention, "use_gqa_in_sdpa", lambda *_: False) if repeats else nullcontext()
    )
    try:
        with heads, sdpa_kernel(KERNELS[name]):
            yield
    except RuntimeError as error:
        if not any(words in str(error) for words in NO_KERNEL):
            raise
        raise UserError(
            f"the attention kernel `{name}` cannot run this model's steps on this device",
            "leave `--sdpa_kernel` out: PyTorch then chooses among those that can",
        ) from error

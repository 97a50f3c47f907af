"""Computes rows side by side on a CPU, a core for each, where one row on all cores would leave them waiting.

The matrices of a small model are too small to be shared out well. On two cores of an Intel Xeon, the embedded model
with an adapter read 1.27 times as many tokens a second in two rows at once as in one row after the other.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from transformers import PreTrainedModel

ROWS_AT_ONCE = 4  # each needs memory of its own; more cores are shared out among these
LENGTHS_MATTER = ("dynamic", "longrope")  # types of rotary embeddings that a forward pass changes for its length

Item = TypeVar("Item")
Result = TypeVar("Result")


def computes_rows_apart(model: PreTrainedModel) -> bool:
    """Tell whether the model is on a CPU, and its forward passes share nothing that they change."""
    rotary = [str(getattr(module, "rope_type", "")) for module in model.modules()]
    return (
        model.device.type == "cpu"
        and torch.get_num_threads() > 1
        and not getattr(model, "is_quantized", False)  # layers in 8 bit keep the outliers of the pass they are in
        and not any(name in kind for kind in rotary for name in LENGTHS_MATTER)
    )


def side_by_side(compute: Callable[[Item], Result], items: Sequence[Item]) -> Generator[Result, None, None]:
    """Yield the result of each item in order, while others are computed on other cores.

    A caller that stops early waits for the items that are being computed, and for no others.

    Args:
        compute: computes an item; it enters the contexts that PyTorch keeps for each thread, as `no_grad`.
        items: what to compute.
    """
    cores = torch.get_num_threads()
    workers = max(1, min(cores, len(items), ROWS_AT_ONCE))
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(cores // workers,))
    try:
        yield from pool.map(compute, items)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)  # what a thread sets is the default of threads that begin later

"""Counts the memory of a training step by part: runs one step of a fake model and counts every live tensor.

The numbers are bytes of tensors, as `torch.cuda.max_memory_allocated` counts them on a GPU. The memory of the driver,
of the kernels and of gaps between tensors comes on top; `blocklm.training.planning.device` allows for it.
"""

import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from peft import PeftModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from trl.kernels import chunked_logprob

from blocklm.training.planning.fake_model import FakeModel

# TRL's `OffloadActivations`: tensors from this size on are moved, and so many of the last ones stay for the copy.
MIN_OFFLOADED, KEPT = 1024, 5
GRAIN = 512  # both of PyTorch's caching allocators hand out multiples of this


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes at the peak of a training step, by part."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """Bytes at the peak, all parts together."""
        return self.weights + self.adapter + self.gradients + self.optimizer + self.activations + self.loss


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are alive, and their peak since `mark`.

    PyTorch's own `MemTracker` puts a gradient hook on every parameter, which fails on frozen ones.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        self._references: dict[int, Any] = {}

    def mark(self) -> int:
        """Start a new peak; return the old one in bytes."""
        before, self.peak = self.peak, self.live
        return before

    def add(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // GRAIN) * GRAIN
        self._references[key] = weakref.ref(storage, lambda _: self._freed(key))
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)

    def _freed(self, key: int) -> None:
        self.live -= self._sizes.pop(key)
        del self._references[key]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.add(value)
        return result


@dataclass(frozen=True, slots=True)
class StepKind:
    """How a step is computed, beside its model and its sizes.

    Attributes:
        optimizer_bytes: bytes of optimizer state per trained weight.
        dtype: dtype of the matrix products.
        gpu: whether the step is for a GPU, where some kernels allocate less memory than on the CPU, and others more.
        offloads: whether activations wait in the machine's memory for the backward pass, as TRL's
            `activation_offloading` has it.
    """

    optimizer_bytes: int
    dtype: torch.dtype
    gpu: bool
    offloads: bool = False


def step_memory(fake: FakeModel, batch: int, length: int, kind: StepKind) -> StepMemory:
    """Count a step in the middle of a training, when gradients and optimizer state exist.

    Args:
        fake: a model of fake tensors.
        batch: number of rows.
        length: tokens per row, all of them targets.
        kind: how the step is computed.
    """
    model, mode = fake.model, fake.mode
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = sum(parameter.nbytes for parameter in trained)
    live, marks = LiveBytes(), _Marks()
    with mode, live, _in_place_loss(kind.gpu), marks.around(backbone_of(model), live):
        for tensor in (*model.parameters(), *model.buffers()):
            live.add(tensor)
        weights = live.live - adapter
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        gradients = live.live - weights - adapter
        ids = torch.zeros(batch, length, dtype=torch.long)
        keeps = _offloading(model) if kind.offloads else nullcontext()
        with keeps, torch.autocast("cpu", kind.dtype, enabled=kind.dtype != torch.float32):
            loss = model(input_ids=ids, labels=ids, fused_lm_head=True, num_items_in_batch=torch.ones(())).loss
        loss.backward()
        marks.backbone = max(marks.backbone, live.mark())
        model.zero_grad()
    static = weights + adapter + gradients
    return StepMemory(
        weights=weights,
        adapter=adapter,
        gradients=gradients,
        optimizer=kind.optimizer_bytes * sum(parameter.numel() for parameter in trained),
        activations=marks.backbone - static,
        loss=max(0, marks.loss - marks.backbone),
    )


class _Marks:
    """The peaks of a step, in bytes, during the backbone and during the loss."""

    def __init__(self) -> None:
        self.backbone = self.loss = 0

    @contextmanager
    def around(self, backbone: torch.nn.Module, live: LiveBytes) -> Iterator[None]:
        """Record both peaks of one forward and backward pass of a model with this backbone."""

        def loss_is_done(_: torch.Tensor) -> None:
            self.loss = live.mark()

        def loss_begins(_: torch.nn.Module, __: Any, output: Any) -> None:
            self.backbone = live.mark()
            output[0].register_hook(loss_is_done)

        hook = backbone.register_forward_hook(loss_begins)
        yield
        hook.remove()


def backbone_of(model: torch.nn.Module) -> torch.nn.Module:
    """Return the part of a model, with or without an adapter, that computes what its head reads."""
    base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    backbone: torch.nn.Module = base.base_model
    return backbone


@contextmanager
def _in_place_loss(gpu: bool) -> Iterator[None]:
    """Keep the loss from allocating tiles of logits if `gpu`: there, Triton's kernels fold each tile in place."""
    if not gpu:
        yield
        return

    def in_place(*_: Any, **__: Any) -> None:
        pass

    with (
        patch.object(chunked_logprob, "_forward_tile", in_place),
        patch.object(chunked_logprob, "_backward_tile", in_place),
    ):
        yield


@contextmanager
def _offloading(model: torch.nn.Module) -> Iterator[None]:
    """Keep what is saved for the backward pass out of the count, as `OffloadActivations` keeps it out of the GPU."""
    weights = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers())}
    copying: deque[torch.Tensor] = deque(maxlen=KEPT)

    def to_machine(tensor: torch.Tensor) -> Any:
        if tensor.nbytes < MIN_OFFLOADED or tensor.untyped_storage()._cdata in weights:
            return tensor
        copying.append(tensor)
        return tensor.shape, tensor.stride(), tensor.dtype

    def to_gpu(saved: Any) -> torch.Tensor:
        if isinstance(saved, torch.Tensor):
            return saved
        shape, stride, dtype = saved
        return torch.empty_strided(shape, stride, dtype=dtype)

    with torch.autograd.graph.saved_tensors_hooks(to_machine, to_gpu):
        yield
    copying.clear()

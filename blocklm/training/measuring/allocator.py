"""Reads the peaks of PyTorch's allocator, phase by phase: from its statistics on a GPU, from the profiler on a CPU."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.profiler import ProfilerActivity, profile, record_function

MARK = "blocklm phase: "


Peaks = dict[str, int]  # most live bytes in each phase; a phase may occur several times


class Meter(Protocol):
    """Records the live bytes of PyTorch's allocator."""

    def recording(self, held: Iterable[torch.Tensor]) -> Any:
        """Open a context that yields the peaks, which are complete when it is closed.

        Args:
            held: the tensors that are live already, which the profiler of a CPU does not know.
        """

    def mark(self, name: str) -> None:
        """End the present phase and begin one of this name."""


def meter_of_device() -> Meter:
    """Return the meter of this process's device."""
    return GpuMeter() if torch.cuda.is_available() else CpuMeter()


class GpuMeter:
    """Reads `torch.cuda`'s statistics, without waiting for the kernels, ahead of which the allocator runs."""

    def __init__(self) -> None:
        self._peaks, self._now = Peaks(), ""

    @contextmanager
    def recording(self, held: Iterable[torch.Tensor]) -> Iterator[Peaks]:
        """See `Meter`."""
        self._peaks, self._now = Peaks(), ""
        torch.cuda.reset_peak_memory_stats()
        try:
            yield self._peaks
        finally:
            self.mark("")

    def mark(self, name: str) -> None:
        """See `Meter`."""
        self._peaks[self._now] = max(self._peaks.get(self._now, 0), torch.cuda.max_memory_allocated())
        torch.cuda.reset_peak_memory_stats()
        self._now = name


class CpuMeter:
    """Adds up the allocations and releases that PyTorch's profiler sees; the steps take longer meanwhile."""

    @contextmanager
    def recording(self, held: Iterable[torch.Tensor]) -> Iterator[Peaks]:
        """See `Meter`."""
        gc.collect()  # what is freed later must have been counted
        peaks, live, now = Peaks(), bytes_of(held), ""
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            yield peaks
        events = profiled.profiler.kineto_results.events()
        for event in sorted(events, key=lambda event: event.start_ns()):
            name = event.name()
            if name == "[memory]":
                live += event.nbytes()
            elif name.startswith(MARK):
                now = name.removeprefix(MARK)
            peaks[now] = max(peaks.get(now, 0), live)

    def mark(self, name: str) -> None:
        """See `Meter`."""
        with record_function(f"{MARK}{name}"):
            pass


def held_tensors(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    """Yield the weights, buffers and gradients of a model, and the scales of quantised weights."""
    for tensor in (*model.parameters(), *model.buffers()):
        yield tensor
        if tensor.grad is not None:
            yield tensor.grad
        state = getattr(tensor, "quant_state", None)
        while state is not None:
            yield state.absmax
            yield state.code
            state = state.state2


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Add up the bytes of tensors; tensors that share their memory count once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def optimizer_tensors(optimizer: Any) -> list[torch.Tensor]:
    """List the state of an optimizer that the allocator holds; bitsandbytes has paged state elsewhere."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    return [value for value in values if isinstance(value, torch.Tensor) and not getattr(value, "is_paged", False)]

"""Observes the few train steps of a measurement: the phases of the allocator, and the clock."""

import time
from typing import Any

import torch
from transformers import TrainerCallback

from blocklm.training.callbacks.hardware import visible_uuids
from blocklm.training.measuring.allocator import Meter
from blocklm.training.monitoring.nvml import Gpus, NoGpus
from blocklm.training.planning.step_memory import backbone_of

WARM_UP = 1  # steps; the first makes the optimizer's state
READ, TIMED = 2, 3  # steps for the allocator, whose profiler is slow on a CPU, and steps for the clock


class PhaseCallback(TrainerCallback):
    """Marks where backbone, loss and optimizer of each step begin; logs no metrics.

    The phases are called `1 backbone`, `1 loss`, `1 optimizer` and `1 done`, by the number of the step.

    Args:
        meter: is told of each phase.
        model: the trained model.
    """

    def __init__(self, meter: Meter, model: torch.nn.Module) -> None:
        self._meter, self._model = meter, model
        self._step = 0
        self._hook: Any = None
        self.gradients = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Watch the backbone."""
        self._hook = backbone_of(self._model).register_forward_hook(self._loss_begins)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin the first pass of a step."""
        self._step = state.global_step + 1
        self._mark("backbone")

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin another pass of a step."""
        self._mark("backbone")

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add up the gradients, and begin the optimizer's part of a step."""
        gradients = [parameter.grad for parameter in self._model.parameters() if parameter.grad is not None]
        self.gradients = sum(gradient.nbytes for gradient in gradients)
        self._mark("optimizer")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the step."""
        self._mark("done")

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let go of the backbone."""
        self._hook.remove()

    def _loss_begins(self, _: Any, __: Any, output: Any) -> None:
        if torch.is_grad_enabled() and output[0].requires_grad:
            self._mark("loss")
            output[0].register_hook(lambda _: self._mark("backbone"))

    def _mark(self, phase: str) -> None:
        self._meter.mark(f"{self._step} {phase}")


class Clock(TrainerCallback):
    """Times the passes and the optimizer's steps after the first step, and reads the GPU's power; logs no metrics."""

    def __init__(self) -> None:
        self._passes: list[float] = []
        self._optimizer: list[float] = []
        self._watts: list[float] = []
        self._begun = 0.0
        try:
            self._gpus: Gpus | None = Gpus(visible_uuids()) if torch.cuda.is_available() else None
        except NoGpus:
            self._gpus = None

    @property
    def micro_seconds(self) -> float:
        """Mean seconds of a forward and backward pass."""
        return _mean(self._passes)

    @property
    def optimizer_seconds(self) -> float:
        """Mean seconds of a step of the optimizer, clipping included."""
        return _mean(self._optimizer)

    @property
    def watts(self) -> float | None:
        """Mean power of the GPU; None where NVML does not tell."""
        return _mean(self._watts) if self._watts else None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._begun = _now()

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time of a pass."""
        self._take(self._passes, state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time of the last pass."""
        self._take(self._passes, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the time of the optimizer, and read the power."""
        self._take(self._optimizer, state.global_step - 1)
        if self._gpus is not None:
            power = self._gpus.sample().get("gpu_power_w")
            self._watts += [] if power is None else [power]

    def _take(self, times: list[float], steps_done: int) -> None:
        before, self._begun = self._begun, _now()
        if steps_done >= WARM_UP:
            times.append(self._begun - before)


def _now() -> float:
    """Read the clock once the device has done all that it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

"""Monitors the hardware during training: logs series, and pauses or stops when temperature or memory exceed limits."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.config.hardware import WatchArguments
from blocklm.errors import UserError
from blocklm.formatting import MIB
from blocklm.interrupts import Interrupts
from blocklm.training.monitoring.nvml import Gpus, NoGpus, process_memory
from blocklm.training.monitoring.sampler import BackgroundSampler, Source
from blocklm.training.monitoring.system import Machine

logger = logging.getLogger(__name__)

HYSTERESIS = 5  # percent or degrees below a limit at which its warning is reset
COOLING_SECONDS = 600.0
SERIES = "hardware/"


class HardwareCallback(TrainerCallback):
    """Samples the hardware in a thread, and acts on its limits between two steps.

    Logs under `hardware/` the means since the last log; each name ends in its unit:

    - of the machine: `cpu_percent`, `ram_percent`, `ram_used_mib`, `swap_used_mib`, `disk_free_gib`,
      `disk_read_mib_per_s`, `disk_write_mib_per_s`, `network_received_mib_per_s`, `network_sent_mib_per_s`;
    - of this process and its children: `process_cpu_percent` (of one core), `process_ram_mib`,
      `process_disk_read_mib_per_s`, `process_disk_write_mib_per_s`;
    - of each GPU, named `gpu`, or `gpu0`, `gpu1` … if there are several: `gpu_util_percent`, `gpu_memory_util_percent`,
      `gpu_memory_used_mib`, `gpu_memory_percent`, `gpu_process_memory_mib`, `gpu_temp_c`, `gpu_power_w`,
      `gpu_energy_wh` (since the start), `gpu_sm_clock_mhz`, `gpu_memory_clock_mhz`, `gpu_slowed_by_heat_percent`,
      `gpu_slowed_by_power_percent`, `gpu_slowed_by_hardware_percent` (of the time);
    - of PyTorch's allocator in this process: `gpu_torch_allocated_mib`, `gpu_torch_reserved_mib`.

    With several processes, the first process of each machine does this for all of its GPUs.

    Args:
        watch: sampling interval in seconds, and limits.
        interrupts: receives requests to stop, which all processes then share.
        folder: the run's output directory.
    """

    def __init__(self, watch: WatchArguments, interrupts: Interrupts, folder: Path) -> None:
        self._watch, self._interrupts, self._folder = watch, interrupts, folder
        self._gpus: Gpus | None = None
        self._gpu_entry: list[dict[str, Any]] | str | None = None
        self._sampler: BackgroundSampler | None = None
        self._warned: set[str] = set()
        self._paused = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Find the sources and start to sample them."""
        if not self._watch.hardware_interval or not PartialState().is_local_main_process:
            return
        if self._sampler is None:
            self._sampler = BackgroundSampler(self._sources(), self._watch.hardware_interval)
        self._sampler.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compare the newest sample with the limits."""
        sample = self.latest
        self._warn(memory_in_use(sample))
        if sample.get("ram_percent", 0.0) > self._watch.memory_stop_percent:
            self._stop(f"{sample['ram_percent']:.0f} % of this machine's RAM is taken", state, "free some memory")
        if hottest(sample) > self._watch.max_gpu_temp:
            self._cool(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the thread."""
        self.stop()

    def stop(self) -> None:
        """End the thread; all samples are kept."""
        if self._sampler is not None:
            self._sampler.stop()

    @property
    def latest(self) -> dict[str, float]:
        """The newest sample; empty before the first and on processes that do not sample."""
        return self._sampler.latest if self._sampler is not None else {}

    def series(self) -> dict[str, float]:
        """Return the series to log beside the loss."""
        means = self._sampler.means() if self._sampler is not None else {}
        return {f"{SERIES}{name}": value for name, value in means.items()}

    def usage(self) -> dict[str, Any] | None:
        """Return the manifest's `hardware.usage`; None if nothing was sampled. Without GPUs, `gpus` says why."""
        if self._sampler is None:
            return None
        return {"gpus": self._gpu_entry, **self._sampler.usage(), "paused_seconds": round(self._paused, 1)}

    def _sources(self) -> list[Source]:
        machine = Machine(self._folder)
        sources: list[Source] = [machine.sample]
        try:
            self._gpus = gpus = Gpus(visible_uuids())
            self._gpu_entry = gpus.entry()
            sources += [gpus.sample, lambda: process_memory(gpus, machine.pids())]
        except NoGpus as reason:
            self._gpu_entry = f"none: {reason}"
            logger.info("no GPU is monitored (%s): processor, memory, disk and network only", reason)
        if torch.cuda.is_available():
            sources.append(_torch_memory)
        return sources

    def _warn(self, taken: dict[str, float]) -> None:
        limit = self._watch.memory_warn_percent
        for name, percent in taken.items():
            if percent > limit and name not in self._warned:
                self._warned.add(name)
                logger.warning("%.0f %% of %s is taken (`memory_warn_percent` is %g)", percent, name, limit)
            elif percent < limit - HYSTERESIS:
                self._warned.discard(name)

    def _stop(self, why: str, state: TrainerState, remedy: str) -> None:
        self._interrupts.request(
            UserError(
                f"{why}: stopped at step {state.global_step}, which is saved",
                f"{remedy} and run the same command again: it resumes",
            )
        )

    def _cool(self, state: TrainerState) -> None:
        """Wait until all GPUs are cooler or a stop is requested."""
        limit, started = self._watch.max_gpu_temp, time.monotonic()
        logger.warning(
            "a GPU is at %.0f °C: pausing until it is below %.0f °C", hottest(self.latest), limit - HYSTERESIS
        )
        while hottest(self.latest) > limit - HYSTERESIS and self._interrupts.requested is None:
            time.sleep(min(1.0, self._watch.hardware_interval))
            if time.monotonic() - started > COOLING_SECONDS:
                cause = (
                    f"a GPU stayed at {hottest(self.latest):.0f} °C while nothing ran on it for {COOLING_SECONDS:g} s"
                )
                self._stop(cause, state, "check its cooling")
        self._paused += time.monotonic() - started
        logger.warning("paused for %.0f s, now at %.0f °C", time.monotonic() - started, hottest(self.latest))


def memory_in_use(sample: dict[str, float]) -> dict[str, float]:
    """Percent used of the RAM and of each GPU's memory, where PyTorch's unused cache counts as free."""
    taken = {"RAM": sample["ram_percent"]} if "ram_percent" in sample else {}
    for name, percent in sample.items():
        gpu = name.removesuffix("_memory_percent")
        if gpu != name and sample[f"{gpu}_memory_used_mib"]:
            used = sample[f"{gpu}_memory_used_mib"]
            cached = sample.get(f"{gpu}_torch_reserved_mib", 0.0) - sample.get(f"{gpu}_torch_allocated_mib", 0.0)
            taken[f"{gpu}'s memory"] = percent * (used - cached) / used
    return taken


def hottest(sample: dict[str, float]) -> float:
    """The temperature of the hottest GPU; minus infinity without one."""
    return max((value for name, value in sample.items() if name.endswith("_temp_c")), default=float("-inf"))


def visible_uuids() -> list[str] | None:
    """UUIDs of the GPUs that PyTorch sees, as NVML names them; None without CUDA."""
    if not torch.cuda.is_available():
        return None
    return [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(torch.cuda.device_count())]


def _torch_memory() -> dict[str, float]:
    """Read PyTorch's allocator in this process, on its own device."""
    device = torch.cuda.current_device()
    prefix = "gpu" if torch.cuda.device_count() == 1 else f"gpu{device}"
    return {
        f"{prefix}_torch_allocated_mib": torch.cuda.memory_allocated(device) / MIB,
        f"{prefix}_torch_reserved_mib": torch.cuda.memory_reserved(device) / MIB,
    }

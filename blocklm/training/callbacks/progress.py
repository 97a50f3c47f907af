"""Shows the training's progress: a live line on a terminal, else a plain line each minute."""

import logging
import sys
import time
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.training.callbacks.eta import duration
from blocklm.training.callbacks.hardware import HardwareCallback

logger = logging.getLogger(__name__)

LOG_SECONDS = 60.0  # seconds between two plain lines
LINE = "step {n_fmt}/{total_fmt} |{bar:20}| {remaining} left{postfix}"


class ProgressCallback(TrainerCallback):
    """Shows step, time left, loss, tokens per second, memory and temperature; logs no metrics.

    On a terminal a live line, unless `disable_tqdm` is set; elsewhere a line each minute. Each evaluation adds a line.
    Nothing is shown if `blocklm`'s logger is quieter than `INFO`.

    Args:
        hardware: the callback that samples memory and temperature.
    """

    def __init__(self, hardware: HardwareCallback) -> None:
        self._hardware = hardware
        self._bar: tqdm[Any] | None = None
        self._redirect = ExitStack()
        self._started = self._logged_at = 0.0
        self._first_step = 0
        self._latest_logs: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the line."""
        self.close()
        self._started, self._logged_at, self._first_step = time.monotonic(), 0.0, state.global_step
        visible = state.is_world_process_zero and logger.isEnabledFor(logging.INFO)
        if visible and not args.disable_tqdm and sys.stderr.isatty():
            # Messages go above the line; transformers' logger has its own handler.
            loggers = [logging.getLogger(), logging.getLogger("transformers")]
            self._redirect.enter_context(logging_redirect_tqdm(loggers))
            self._bar = tqdm(
                total=state.max_steps, initial=state.global_step, bar_format=LINE, dynamic_ncols=True, file=sys.stderr
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the line."""
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(self._figures()), refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep the logged numbers; without a live line, log them once a minute."""
        logs = logs or {}
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            bits = f", {logs['eval_bits_per_byte']:.3f} bits per byte" if "eval_bits_per_byte" in logs else ""
            logger.info("step %d: evaluation loss %.4f%s", state.global_step, logs["eval_loss"], bits)
        if "loss" not in logs:
            return
        self._latest_logs = logs
        if self._bar is None and time.monotonic() - self._logged_at >= LOG_SECONDS:
            self._logged_at = time.monotonic()
            figures = ", ".join([*self._figures(), *self._time_left(state)])
            logger.info("step %d of %d: %s", state.global_step, state.max_steps, figures)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """End the line."""
        self.close()

    def close(self) -> None:
        """End the line, so that the next message starts on a new one."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        self._redirect.close()

    def _figures(self) -> list[str]:
        figures, sample = [], self._hardware.latest
        if "loss" in self._latest_logs:
            figures.append(f"loss {self._latest_logs['loss']:.3f}")
        if "tokens_per_second" in self._latest_logs:
            figures.append(f"{self._latest_logs['tokens_per_second']:,.0f} tokens/s")
        gpus = [name for name in sample if name.endswith("_memory_used_mib")]
        if gpus:
            figures.append(f"GPU {max(sample[name] for name in gpus) / 1024:.1f} GiB")
        elif "process_ram_mib" in sample:
            figures.append(f"RAM {sample['process_ram_mib'] / 1024:.1f} GiB")
        if temperatures := [value for name, value in sample.items() if name.endswith("_temp_c")]:
            figures.append(f"{max(temperatures):.0f} °C")
        return figures

    def _time_left(self, state: TrainerState) -> list[str]:
        done = state.global_step - self._first_step
        if done <= 0 or state.global_step >= state.max_steps:
            return []
        left = (time.monotonic() - self._started) / done * (state.max_steps - state.global_step)
        return [f"about {duration(left)} left"]

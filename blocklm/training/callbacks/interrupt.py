"""Stops training after the current step, with a checkpoint, when a signal asked for it."""

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.interrupts import Interrupts


class InterruptCallback(TrainerCallback):
    """Asks for a checkpoint and the end of training at the first step after a signal; logs no metrics.

    With several processes the wish is shared at each step: the signal may reach them at different steps, and one that
    stopped alone would leave the others waiting in a collective.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Share the wish and act on it."""
        processes = PartialState()
        wished = self._interrupts.requested or 0
        if processes.num_processes > 1:
            wished = int(reduce(torch.tensor(float(wished), device=processes.device), "sum").item()) and (wished or 15)
        if wished:
            self._interrupts.requested = wished
            control.should_save = control.should_training_stop = True
        return control

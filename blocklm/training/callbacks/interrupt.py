"""Stops training after the current step, with a checkpoint, when a signal asked for it."""

from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from blocklm.interrupts import Interrupts


class InterruptCallback(TrainerCallback):
    """Asks for a checkpoint and the end of training at the first step after a signal; logs no metrics.

    Several processes share the request at each step: the signal may arrive at them during different steps, and a
    process that stopped alone would leave the others waiting in a collective operation.
    """

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Share the request to stop and act on it."""
        processes = PartialState()
        requested = self._interrupts.requested or 0
        if processes.num_processes > 1:
            requested = int(reduce(torch.tensor(float(requested), device=processes.device), "sum").item()) and (
                requested or 15
            )
        if requested:
            self._interrupts.requested = requested
            control.should_save = control.should_training_stop = True
        return control

"""Says of a measured recipe that it fits, or which line of it to change."""

import torch
from trl import ModelConfig, SFTConfig

from blocklm.errors import UserError
from blocklm.formatting import gib
from blocklm.training.measuring.measure import Trial, measure
from blocklm.training.planning.device import Device
from blocklm.training.planning.measurement import Measurement
from blocklm.training.planning.preflight import out_of_memory, release_memory
from blocklm.training.planning.remedies import line_to_change


def cap_allocator(limit: int | None) -> None:
    """Let PyTorch's allocator take no more than `limit` bytes of the GPU; the CPU's has no such limit."""
    if limit is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties().total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))


def measure_or_refuse(trial: Trial, args: SFTConfig) -> Measurement:
    """Measure a trial.

    Args:
        trial: what is measured.
        args: the trainer's arguments, as the recipe gives them.

    Raises:
        UserError: memory ran out, with the line to change; or the steps cannot be computed at all.
    """
    cap_allocator(trial.limit)
    try:
        return measure(trial)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    release_memory()  # only here, where no traceback holds the tensors any more
    plan = trial.plan
    raise UserError(
        f"memory ran out while {plan.micro_batch} x {plan.max_length} tokens were measured on {plan.device.name}",
        _remedy(trial, args, trial.source.config),
    )


def verdict(measurement: Measurement, trial: Trial, args: SFTConfig, device: Device) -> str:
    """Say that the measured steps fit.

    On a GPU they do, because they ran. On a CPU their peak is compared with the memory that was free before, or with
    the limit: nothing stops the CPU's allocator there.

    Raises:
        UserError: they do not, with the line to change.
    """
    room = device.total if device.gpu else device.budget
    room = room if trial.limit is None else trial.limit
    if device.gpu or measurement.peak <= room:
        return f"fits: the largest step took {gib(measurement.peak)} of {gib(room)}"
    hint = _remedy(trial, args, trial.source.config)
    if measurement.measured.total <= room:
        others = {
            "lower `exam_context_tokens`": measurement.exam,
            "set `per_device_eval_batch_size: 1`": measurement.evaluation,
            "lower `behavioral_items`": measurement.answers,
        }
        hint = max(others, key=lambda line: others[line])
    raise UserError(f"does not fit: the largest step took {gib(measurement.peak)}, and there are {gib(room)}", hint)


def _remedy(trial: Trial, args: SFTConfig, keys: ModelConfig) -> str:
    plan = trial.plan
    may_offload = plan.device.gpu and not plan.activation_offloading
    return line_to_change(args, keys, plan.micro_batch, plan.max_length, may_offload)

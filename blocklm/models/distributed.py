"""Joins the processes that share a run, and tells whether the model is split over them."""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from blocklm.errors import UserError


def init_distributed(training: dict[str, Any]) -> PartialState:
    """Join the processes that `accelerate launch` started, or start as the only one.

    Timeout and backend are set here, because the trainer, which also sets them, comes too late: with the default
    timeout the other processes would give up after half an hour, while the main process still mines.

    Args:
        training: the recipe's keys of TRL's `SFTConfig`, of which `ddp_timeout` (seconds) and `ddp_backend` are read.

    Raises:
        UserError: the launcher asks for FSDP or DeepSpeed on a machine without GPUs.
    """
    gpu = torch.cuda.is_available()
    timeout = timedelta(seconds=training["ddp_timeout"])
    processes = PartialState(cpu=not gpu, timeout=timeout, backend=training.get("ddp_backend"))
    if is_sharded() and processes.distributed_type == DistributedType.MULTI_CPU:
        raise UserError(
            "FSDP and DeepSpeed need GPUs: on CPUs accelerate would train with plain DDP without a warning",
            "use `--config_file recipes/accelerate/ddp.yaml`",
        )
    if not gpu:
        # `accelerate launch` gives each process one thread; on CPUs each gets its share of the machine's cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return processes


def join_alone() -> torch.device:
    """Start as the only process, which suffices to use a trained model, and return its device."""
    device: torch.device = PartialState(cpu=not torch.cuda.is_available()).device
    return device


def is_sharded() -> bool:
    """Tell whether FSDP or DeepSpeed splits the model or the optimizer over the processes."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED"))

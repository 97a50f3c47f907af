"""The processes that share a run: how they join, and whether each holds the whole model."""

import os
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from blocklm.errors import UserError


def init_distributed(training: dict[str, Any]) -> PartialState:
    """Join the processes that `accelerate launch` started, or be the only one.

    Args:
        training: keys of the recipe; `ddp_timeout` and `ddp_backend` count here, because the first to join sets them:
            the trainer comes too late, and its patience of half an hour would end while the main process mines.

    Raises:
        UserError: the launcher's configuration asks for what accelerate does only on GPUs.
    """
    gpu = torch.cuda.is_available()
    patience = timedelta(seconds=training["ddp_timeout"])
    processes = PartialState(cpu=not gpu, timeout=patience, backend=training.get("ddp_backend"))
    if is_sharded() and processes.distributed_type == DistributedType.MULTI_CPU:
        raise UserError(
            "FSDP and DeepSpeed need GPUs: on CPUs accelerate would train with plain DDP and not say so",
            "use `--config_file recipes/accelerate/ddp.yaml`",
        )
    if not gpu:
        # `accelerate launch` leaves a process one thread; on a CPU each should have its share of the machine's cores.
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    return processes


def join_alone() -> torch.device:
    """Be the only process, as for a model that is put to use, and return its device."""
    device: torch.device = PartialState(cpu=not torch.cuda.is_available()).device
    return device


def is_sharded() -> bool:
    """Whether the launcher was told to split model or optimizer over the processes, by FSDP or DeepSpeed."""
    return any(os.environ.get(f"ACCELERATE_USE_{name}") == "true" for name in ("FSDP", "DEEPSPEED"))

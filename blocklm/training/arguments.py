"""Checks the trainer's arguments before anything is mined, by building optimizer, schedule and trackers once in small.

The libraries build them when training begins, and report only then a missing package or a schedule's missing key.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from transformers import Trainer
from transformers.integrations import get_reporting_integration_callbacks, unset_hf_deepspeed_config
from transformers.optimization import get_scheduler
from trl import SFTConfig

from blocklm.errors import UserError

TRIAL_STEPS = 10


def build_arguments(given: Mapping[str, Any]) -> SFTConfig:
    """Build the trainer's arguments and check that the libraries accept them.

    A null key counts as left out if the library's default is not null.

    Args:
        given: keys of TRL's `SFTConfig`.

    Raises:
        UserError: the keys contradict each other, with the library's message, or a package that they need is missing.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(SFTConfig)}
    kept = {key: value for key, value in given.items() if value is not None or defaults.get(key) is None}
    with _explain_errors("these keys do not go together", "correct these keys in the recipe"):
        args = _sft_config(kept)
    with _explain_errors("`report_to` names what cannot be reported to", "leave `report_to` out for TensorBoard"):
        get_reporting_integration_callbacks(args.report_to)
    with _explain_errors(
        "the keys `dataloader_…` do not go together",
        "set `dataloader_num_workers` to 1 or more, or leave the others out",
    ):
        torch.utils.data.DataLoader(  # no worker starts before it is read
            [0],  # type: ignore[arg-type]
            num_workers=args.dataloader_num_workers,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )
    optimizer = _small_optimizer(args, torch.nn.Linear(1, 1))
    with _explain_errors(
        f"`lr_scheduler_type: {_name(args.lr_scheduler_type)}` cannot be set up", "correct it or `lr_scheduler_kwargs`"
    ):
        warmup = args.get_warmup_steps(TRIAL_STEPS)
        get_scheduler(args.lr_scheduler_type, optimizer, warmup, TRIAL_STEPS, args.lr_scheduler_kwargs)
    return args


def _sft_config(keys: Mapping[str, Any]) -> SFTConfig:
    """Build the arguments; if the library refuses them, make transformers forget the DeepSpeed file that they name.

    Otherwise transformers would apply the half-read file to every later model.
    """
    try:
        return SFTConfig(**keys)
    except Exception:
        unset_hf_deepspeed_config()
        raise


def _small_optimizer(args: SFTConfig, layer: torch.nn.Linear) -> torch.optim.Optimizer:
    """Build the optimizer on one layer; plain SGD in place of an optimizer that chooses layers by name."""
    if args.optim_target_modules is not None:
        return torch.optim.SGD(layer.parameters(), lr=1.0)
    with _explain_errors(
        f"`optim: {_name(args.optim)}` cannot be set up", "correct `optim`, or leave `optim_args` out"
    ):
        kind, keys = Trainer.get_optimizer_cls_and_kwargs(args, layer)
        optimizer: torch.optim.Optimizer = kind(layer.parameters(), **keys)
    return optimizer


@contextmanager
def _explain_errors(cause: str, remedy: str) -> Iterator[None]:
    """Turn any error of a library into a `UserError`."""
    try:
        yield
    except Exception as error:  # the libraries raise many kinds, and all are about the user's keys
        message = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{cause}: {message}", remedy) from error


def _name(choice: Any) -> str:
    return str(getattr(choice, "value", choice))

"""The trainer's arguments, tried before anything is mined: what they ask for is built once, small.

The libraries build optimizer, schedule and trackers when training begins, and say only then that a package is missing or
that a schedule needs another key.
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

TRIED_STEPS = 10


def build_arguments(given: Mapping[str, Any]) -> SFTConfig:
    """Make the trainer's arguments and see that the libraries can do what they say.

    A key that is null counts as left out where the library's default is another.

    Args:
        given: keys of TRL's `SFTConfig`.

    Raises:
        UserError: they do not go together, in the library's own words, or this machine lacks what they need.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(SFTConfig)}
    kept = {key: value for key, value in given.items() if value is not None or defaults.get(key) is None}
    with _refused("these keys do not go together", "correct these keys in the recipe"):
        args = _without_deepspeed_left(kept)
    with _refused("`report_to` names what cannot be reported to", "leave `report_to` out for TensorBoard"):
        get_reporting_integration_callbacks(args.report_to)
    optimizer = _small_optimizer(args, torch.nn.Linear(1, 1))
    with _refused(
        f"`lr_scheduler_type: {_name(args.lr_scheduler_type)}` cannot be set up", "correct it or `lr_scheduler_kwargs`"
    ):
        warmup = args.get_warmup_steps(TRIED_STEPS)
        get_scheduler(args.lr_scheduler_type, optimizer, warmup, TRIED_STEPS, args.lr_scheduler_kwargs)
    return args


def _without_deepspeed_left(keys: Mapping[str, Any]) -> SFTConfig:
    """The arguments; where they are refused, transformers would keep the half-read DeepSpeed file for every later model."""
    try:
        return SFTConfig(**keys)
    except Exception:
        unset_hf_deepspeed_config()
        raise


def _small_optimizer(args: SFTConfig, layer: torch.nn.Linear) -> torch.optim.Optimizer:
    """The optimizer on one layer; one that picks layers by name is left for later, as there are none to pick."""
    if args.optim_target_modules is not None:
        return torch.optim.SGD(layer.parameters(), lr=1.0)
    with _refused(f"`optim: {_name(args.optim)}` cannot be set up", "correct `optim`, or leave `optim_args` out"):
        kind, keys = Trainer.get_optimizer_cls_and_kwargs(args, layer)
        optimizer: torch.optim.Optimizer = kind(layer.parameters(), **keys)
    return optimizer


@contextmanager
def _refused(cause: str, remedy: str) -> Iterator[None]:
    """Whatever a library raises for its keys is of the user's making, and there is no common kind of error."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{cause}: {said}", remedy) from error


def _name(choice: Any) -> str:
    return str(getattr(choice, "value", choice))

"""The trainer's arguments, tried before anything is mined: what they ask for is built once, small.

The libraries build optimizer, schedule and trackers when training begins, and say only then that a package is missing or
that a schedule needs another key.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from transformers import Trainer
from transformers.integrations import get_reporting_integration_callbacks
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
    # Whatever a library raises for its keys is of the user's making, and there is no common kind of error.
    try:
        args = SFTConfig(**kept)
        get_reporting_integration_callbacks(args.report_to)
        _try_optimizer(args, torch.nn.Linear(1, 1))
    except Exception as error:
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(said, "correct these keys in the recipe") from error
    return args


def _try_optimizer(args: SFTConfig, layer: torch.nn.Linear) -> None:
    """Build optimizer and schedule; one that picks layers by name is built by torch's SGD, as there are none to pick."""
    kind, keys = torch.optim.SGD, {"lr": 1.0}
    if args.optim_target_modules is None:
        kind, keys = Trainer.get_optimizer_cls_and_kwargs(args, layer)
    optimizer = kind(layer.parameters(), **keys)
    warmup = args.get_warmup_steps(TRIED_STEPS)
    get_scheduler(args.lr_scheduler_type, optimizer, warmup, TRIED_STEPS, args.lr_scheduler_kwargs)

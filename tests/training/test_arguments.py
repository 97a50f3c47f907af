"""Trainer keys that the libraries cannot use are refused before anything is mined."""

from pathlib import Path
from typing import Any

import pytest

from blocklm.errors import UserError
from blocklm.training.arguments import build_arguments

CPU: dict[str, Any] = {"use_cpu": True, "bf16": False, "fp16": False, "report_to": ["tensorboard"]}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optim": "lomo"}, "`optim: lomo` cannot be set up"),
        ({"optim_args": "all-linear"}, "`optim: adamw_torch"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "`lr_scheduler_type: cosine_with_min_lr` cannot be set up"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"lr_scheduler_kwargs": {"x": 1}}, "`lr_scheduler_type: linear` cannot be set up"),
        ({"deepspeed": "absent.json"}, "these keys do not go together"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_num_workers"),
        ({"dataloader_persistent_workers": True}, "the keys `dataloader_…` do not go together"),
        ({"load_best_model_at_end": True}, "save and eval strategy to match"),
        ({"tf32": True}, "--tf32 requires Ampere"),
        ({"report_to": ["nothing"]}, "`report_to` names what cannot be reported to"),
    ],
)
def test_keys_that_no_library_takes_are_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        build_arguments(CPU | {"output_dir": str(tmp_path)} | keys)
    assert message in str(refused.value)
    assert refused.value.hint


@pytest.mark.parametrize(
    "optim", ["adamw_torch", "paged_adamw_8bit", "adafactor", "sgd", "lion_32bit", "rmsprop_bnb_8bit"]
)
def test_a_valid_optimizer_is_accepted(tmp_path: Path, optim: str) -> None:
    args = build_arguments(CPU | {"output_dir": str(tmp_path), "optim": optim})
    assert args.optim.value == optim


def test_null_is_the_librarys_default_where_that_is_another(tmp_path: Path) -> None:
    args = build_arguments(CPU | {"output_dir": str(tmp_path), "seed": None, "max_length": None, "eval_steps": None})
    assert (args.seed, args.max_length, args.eval_steps) == (42, 1024, None)

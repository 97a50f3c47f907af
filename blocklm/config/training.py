"""Checks the libraries' own keys before a library is loaded: numbers out of bounds, packages that are not installed.

The libraries would find most of these hours later, after mining or at the first evaluation, and end in a traceback.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocklm.errors import UserError

INFINITE = float("inf")
MOST_SEED = 2**32 - 1  # numpy's


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds of a key's value.

    Attributes:
        low: lower bound.
        high: upper bound, itself allowed.
        zero: whether the lower bound itself is allowed.
    """

    low: float = 0
    high: float = INFINITE
    zero: bool = True

    def contain(self, value: float) -> bool:
        """Whether a number lies within the bounds; infinity and NaN never do."""
        return (self.low <= value if self.zero else self.low < value) and value <= self.high and value < INFINITE

    def __str__(self) -> str:
        low = f"from {self.low:g} up" if self.zero else f"above {self.low:g}"
        return low if self.high == INFINITE else f"{low}, at most {self.high:g}"


COUNT, AMOUNT, POSITIVE, SHARE = Bounds(1), Bounds(), Bounds(zero=False), Bounds(0, 0.9999)
BOUNDS = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "lora_r",
         "eval_accumulation_steps", "torch_empty_cache_steps", "dataset_num_proc", "dataloader_prefetch_factor",
         "save_total_limit", "ddp_timeout", "ddp_bucket_cap_mb"),
        COUNT,
    ),
    **dict.fromkeys(
        ("num_train_epochs", "logging_steps", "eval_steps", "save_steps", "adam_epsilon", "lora_alpha"),
        POSITIVE,
    ),
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "dataloader_num_workers", "eval_delay", "neftune_noise_alpha",
         "router_aux_loss_coef"),
        AMOUNT,
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout", "label_smoothing_factor"), SHARE),
    **dict.fromkeys(("seed", "data_seed"), Bounds(0, MOST_SEED)),
    "max_length": Bounds(2),
}  # fmt: skip
# Trackers by the name that `report_to` gives them, and the package that each needs.
TRACKERS = {
    "azure_ml": "azureml", "clearml": "clearml", "codecarbon": "codecarbon", "comet_ml": "comet_ml", "dagshub": "dagshub",
    "dvclive": "dvclive", "flyte": "flytekit", "kubeflow": "kubeflow", "mlflow": "mlflow", "neptune": "neptune",
    "swanlab": "swanlab", "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb",
}  # fmt: skip
ATTENTIONS = {
    "eager": None, "sdpa": None, "flex_attention": None, "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface", "flash_attention_4": "flash_attn.cute",
}  # fmt: skip
# Optimizers by a part of their name, and the package that each needs; the others are PyTorch's or bitsandbytes'.
OPTIMIZERS = {
    "galore": "galore_torch", "apollo": "apollo_torch", "lomo": "lomo_optim", "grokadamw": "grokadamw",
    "schedule_free": "schedulefree", "adamw_torch_4bit": "torchao", "adamw_torch_8bit": "torchao", "stable_adamw": "optimi",
    "anyprecision": "torchdistx", "xla": "torch_xla", "npu": "torch_npu", "apex": "apex",
}  # fmt: skip
LOG_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")
ATTENTION_REMEDY = "leave `attn_implementation` out: `sdpa` is PyTorch's own"


def check_training(training: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Check the keys of TRL and transformers, and that the packages they need are installed.

    Raises:
        UserError: a value is not valid, or this machine lacks its package.
    """
    given = {**training, **model}
    for key, bounds in BOUNDS.items():
        value = given.get(key)
        if value is not None and not bounds.contain(value):
            raise UserError(f"`{key}` cannot be {value}", f"give a number {bounds}")
    if (steps := training.get("max_steps")) is not None and steps < 1 and steps != -1:
        raise UserError(
            f"`max_steps` cannot be {steps}", "give 1 or more, or leave it out to count `num_train_epochs`"
        )
    metric = training.get("metric_for_best_model")
    if metric is not None and metric not in ("loss", "eval_loss"):
        raise UserError(f"`metric_for_best_model` cannot be {metric!r}", "give `eval_loss`, which evaluations measure")
    for key in ("log_level", "log_level_replica"):
        if (level := training.get(key)) is not None and level not in LOG_LEVELS:
            raise UserError(f"`{key}` cannot be {level!r}", f"it is one of {', '.join(LOG_LEVELS)}")
    template = training.get("chat_template_path")
    if template is not None and not Path(template).exists():
        raise UserError(
            f"`chat_template_path` names `{template}`, which does not exist", "give a file, or leave it out"
        )
    _check_packages(given)
    if model.get("use_peft"):
        _check_adapter(model)


def _check_packages(given: Mapping[str, Any]) -> None:
    trackers = given.get("report_to") or []
    for name in trackers:
        if name in ("none", "all") and len(trackers) == 1:
            continue
        if name not in TRACKERS:
            raise UserError(f"`report_to` cannot be {name!r}", f"give some of {', '.join(TRACKERS)}, or none, or all")
        _check_package("report_to", name, TRACKERS[name], "leave `report_to` out for TensorBoard")
    if given.get("use_liger_kernel"):
        _check_package("use_liger_kernel", "true", "liger_kernel", "leave `use_liger_kernel` out")
    optimizer = str(given.get("optim") or "")
    for part, package in OPTIMIZERS.items():
        if part in optimizer:
            _check_package("optim", optimizer, package, "leave `optim` out for PyTorch's AdamW")
    attention = given.get("attn_implementation")
    if attention is None or "/" in attention:  # the name of a kernel on the hub
        return
    if attention not in ATTENTIONS:
        raise UserError(f"`attn_implementation` cannot be {attention!r}", f"give one of {', '.join(ATTENTIONS)}")
    if (needed := ATTENTIONS[attention]) is not None:
        _check_package("attn_implementation", attention, needed, ATTENTION_REMEDY)


def _check_package(key: str, value: str, package: str, remedy: str) -> None:
    try:
        present = importlib.util.find_spec(package) is not None
    except ImportError:  # the parent package is missing
        present = False
    if not present:
        raise UserError(
            f"`{key}: {value}` needs the package {package}, which is not installed", f"install it, or {remedy}"
        )


def _check_adapter(model: Mapping[str, Any]) -> None:
    if (task := model.get("lora_task_type")) not in (None, "CAUSAL_LM"):
        raise UserError(f"`lora_task_type` cannot be {task!r}", "leave it out: the model is trained to continue text")
    for key in ("lora_target_modules", "lora_target_parameters", "lora_modules_to_save"):
        names = model.get(key)
        if (names is not None and not all(map(str.strip, names))) or names == []:
            raise UserError(f"`{key}` holds an empty name", f"give `{key}` names of layers or leave it out")

"""Compares plans with the memory peaks that others measured when they tuned models of public sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from trl import ModelConfig, SFTConfig

from blocklm.formatting import GIB
from blocklm.models.precision import Precision
from blocklm.training.planning.device import gpu_of
from blocklm.training.planning.known_models import known_config
from blocklm.training.planning.micro_batch import BATCHES, LENGTHS, Steps

GPUS = ("4GiB", "6GiB", "8GiB", "12GiB", "24GiB")
HALF = Precision(True, False, torch.float16, "a GPU")
CODE_MODELS = (
    "qwen2.5-coder-1.5b", "starcoder2-3b", "granite-4.1-3b", "phi-2", "gpt2-medium", "qwen2.5-coder-3b", "qwen2.5-coder-7b",
)  # fmt: skip
ATTENTION = ["q_proj", "v_proj"]


@dataclass(frozen=True, slots=True)
class PublishedPeak:
    """A memory peak in bytes that others measured for QLoRA without checkpointing, with the sizes of their run."""

    model: str
    batch: int
    length: int
    lora_r: int
    targets: list[str] | str
    peak: float


# litgpt, config_hub/finetune/README.md and the `qlora.yaml` of each (A10G, bf16-true, adapters in bf16, Alpaca2k cut at
# 512 tokens, most of which are shorter). Our plans have fp32 adapters, autocast's fp32 copies and rows of full length.
PEAKS = (
    PublishedPeak("stablelm-base-alpha-3b", 1, 512, 32, ["query_key_value"], 5.24e9),
    PublishedPeak("phi-2", 4, 512, 8, "all-linear", 14.27e9),
    PublishedPeak("llama-3.2-3b", 2, 512, 32, ATTENTION, 10.30e9),
)


def planning_table() -> Iterator[str]:
    """Yield, as Markdown, the plans of the code models, and the error of plans of what others measured."""
    yield f"| QLoRA, r 16 | tokens | one row, GiB | micro-batch on {' | '.join(GPUS)} |"
    yield "|---|---|---" + "|---" * len(GPUS) + "|"
    budgets = [gpu_of(size).budget for size in GPUS]
    for name in CODE_MODELS:
        steps = _steps(name, lora_r=16, use_bnb_nested_quant=True)
        for length in (length for length in LENGTHS if length <= (steps.positions or length)):
            batches = " | ".join(str(steps.largest_batch(length, BATCHES, budget) or "none") for budget in budgets)
            yield f"| {name} | {length} | {steps.memory(1, length).total / GIB:.2f} | {batches} |"
    yield "\n| others measured | rows x tokens | their peak, GB | planned, GB | error |"
    yield "|---|---|---|---|---|"
    for peak in PEAKS:
        steps = _steps(
            peak.model, checkpointing=False, optim="adamw_torch", lora_r=peak.lora_r, lora_target_modules=peak.targets
        )
        planned = steps.memory(peak.batch, peak.length).total
        error = f"{100 * (planned / peak.peak - 1):+.0f} %"
        yield f"| {peak.model} | {peak.batch} x {peak.length} | {peak.peak / 1e9:.2f} | {planned / 1e9:.2f} | {error} |"


def _steps(name: str, checkpointing: bool = True, optim: str = "paged_adamw_8bit", **adapter: Any) -> Steps:
    keys = ModelConfig(use_peft=True, load_in_4bit=True, lora_dropout=0.05, attn_implementation="sdpa", **adapter)
    args = SFTConfig(bf16=False, use_cpu=True, optim=optim, gradient_checkpointing=checkpointing)
    return Steps(known_config(name), keys, args, HALF, gpu=True)

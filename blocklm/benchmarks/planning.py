"""Compares plans with the memory peaks that others measured when they tuned models of public sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, PretrainedConfig
from trl import ModelConfig, SFTConfig

from blocklm.formatting import GIB
from blocklm.models.precision import Precision
from blocklm.training.planning.device import gpu_of
from blocklm.training.planning.micro_batch import BATCHES, LENGTHS, Steps

GPUS = ("4GiB", "6GiB", "8GiB", "12GiB", "24GiB")
HALF = Precision(True, False, torch.float16, "a GPU")
CODE_MODELS = ("starcoder2-3b", "phi-2", "gpt2-medium", "qwen2.5-coder-1.5b", "qwen2.5-coder-3b", "qwen2.5-coder-7b")

# The sizes in each model's `config.json`, by the name of its architecture in transformers.
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "starcoder2-3b": ("starcoder2", {"hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
        "num_attention_heads": 24, "num_key_value_heads": 2, "max_position_embeddings": 16384, "vocab_size": 49152,
        "sliding_window": 4096, "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0}),
    "phi-2": ("phi", {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
        "num_attention_heads": 32, "max_position_embeddings": 2048, "vocab_size": 51200}),
    "gpt2-medium": ("gpt2", {"n_embd": 1024, "n_layer": 24, "n_head": 16, "n_positions": 1024, "vocab_size": 50257}),
    "qwen2.5-coder-1.5b": ("qwen2", {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936,
        "tie_word_embeddings": True}),
    "qwen2.5-coder-3b": ("qwen2", {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2, "max_position_embeddings": 32768, "vocab_size": 151936,
        "tie_word_embeddings": True}),
    "qwen2.5-coder-7b": ("qwen2", {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768, "vocab_size": 152064}),
    "llama-3.2-3b": ("llama", {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
        "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "vocab_size": 128256, "tie_word_embeddings": True}),
    "llama-3.1-8b": ("llama", {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 131072,
        "vocab_size": 128256}),
    "stablelm-base-alpha-3b": ("gpt_neox", {"hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 16,
        "num_attention_heads": 32, "max_position_embeddings": 4096, "vocab_size": 50688}),
    "tiny-llama": ("llama", {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048, "vocab_size": 32000}),
}  # fmt: skip
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


def known_config(name: str) -> PretrainedConfig:
    """Make the configuration of one of these models."""
    architecture, sizes = SIZES[name]
    config: PretrainedConfig = AutoConfig.for_model(architecture, **sizes)
    return config


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

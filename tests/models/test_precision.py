"""The device decides the precision, and conversions that are spared change nothing that is computed under autocast."""

import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import ModelConfig

from blocklm.models.loading import load_base
from blocklm.models.precision import bf16_is_faster, choose_precision, spare_conversions


def adapted(folder: Path) -> Any:
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(folder)
    return get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))


def loss_and_gradients(model: Any) -> list[torch.Tensor]:
    ids = torch.arange(5, 45).reshape(2, 20)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return [loss, *(weight.grad for weight in model.parameters() if weight.requires_grad)]


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "starcoder2"])
def test_products_and_gradients_stay_the_same_to_the_bit(tiny_models: dict[str, Path], family: str) -> None:
    plain, spared = adapted(tiny_models[family]), adapted(tiny_models[family])
    spare_conversions(spared, torch.bfloat16)
    for expected, found in zip(loss_and_gradients(plain), loss_and_gradients(spared), strict=True):
        assert torch.equal(expected, found)


def test_only_frozen_weights_of_the_base_are_stored_in_16_bit(tiny_models: dict[str, Path]) -> None:
    model = adapted(tiny_models["llama"]).requires_grad_(False)
    spare_conversions(model, torch.bfloat16)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype == torch.bfloat16
    assert layer.lora_A["default"].weight.dtype == layer.lora_B["default"].weight.dtype == torch.float32
    assert model.get_output_embeddings().weight.dtype == torch.float32


def test_products_in_32_bit_are_left_alone(tiny_models: dict[str, Path]) -> None:
    model = adapted(tiny_models["llama"])
    spare_conversions(model, torch.float32)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize("slower", [torch.float32, torch.bfloat16])
def test_a_cpu_computes_in_the_precision_in_which_it_is_faster(slower: torch.dtype) -> None:
    linear = torch.nn.functional.linear

    def delayed(batch: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        time.sleep(0.5 if batch.dtype == slower else 0)
        return linear(batch, weight)

    bf16_is_faster.cache_clear()
    with (
        patch.object(torch.cuda, "is_available", lambda: False),
        patch.object(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}),
        patch.object(torch.nn.functional, "linear", delayed),
    ):
        precision, switched_off = choose_precision(None, None), choose_precision(None, False)
    bf16_is_faster.cache_clear()
    assert (precision.bf16, precision.dtype == torch.bfloat16) == (slower is torch.float32,) * 2
    assert precision.reason == (
        "the CPU computes bf16 natively" if slower is torch.float32 else "the CPU computes fp32 faster than bf16"
    )
    assert switched_off.reason == "switched off in the recipe"


def test_a_cpu_without_bf16_computes_in_32_bit() -> None:
    with (
        patch.object(torch.cuda, "is_available", lambda: False),
        patch.object(torch.cpu, "get_capabilities", dict),
    ):
        precision = choose_precision(None, None)
    assert (precision.bf16, precision.dtype, precision.reason) == (False, torch.float32, "the CPU has no native bf16")


def test_turing_multiplies_4_bit_weights_in_fp16_for_which_it_has_a_fused_kernel(tiny_models: dict[str, Path]) -> None:
    with (
        patch.object(torch.cuda, "is_available", lambda: True),
        patch.object(torch.cuda, "get_device_capability", lambda: (7, 5)),
        patch.object(torch.cuda, "get_device_name", lambda: "RTX 2060"),
    ):
        precision = choose_precision(None, None)
    assert (precision.fp16, precision.bf16, precision.dtype) == (True, False, torch.float16)
    base = load_base(ModelConfig(model_name_or_path=str(tiny_models["starcoder2"]), load_in_4bit=True), precision)
    layers = [module for module in base.modules() if isinstance(module, Linear4bit)]
    assert layers
    assert {layer.compute_dtype for layer in layers} == {torch.float16}

"""Documents share a row only where the model itself shows that they cannot see each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from trl import ModelConfig

from blocklm.model import load_base
from blocklm.packing import keeps_documents_apart
from blocklm.precision import Precision

BF16 = Precision(False, True, torch.bfloat16, "test")
FP32 = Precision(False, False, torch.float32, "test")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["starcoder2", "phi", "gpt2", "llama"])
@pytest.mark.parametrize("four_bit", [True, False])
def test_our_families_keep_documents_apart(
    tiny_models: dict[str, Path], family: str, attention: str, four_bit: bool
) -> None:
    keys = ModelConfig(
        model_name_or_path=str(tiny_models[family]), attn_implementation=attention, load_in_4bit=four_bit
    )
    model = load_base(keys, BF16 if four_bit else FP32).train()
    assert keeps_documents_apart(model)
    assert model.training


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}),  # ALiBi: knows no positions
        ("mamba", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),  # recurrent: one state for the row
    ],
)
def test_architectures_without_positions_do_not(architecture: str, size: dict[str, Any]) -> None:
    config = AutoConfig.for_model(architecture, vocab_size=128, bos_token_id=0, eos_token_id=0, pad_token_id=0, **size)
    assert not keeps_documents_apart(AutoModelForCausalLM.from_config(config))

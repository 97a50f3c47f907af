"""The packaged model is a real one: it has learned English and code."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.conftest import ROOT

FOLDER = ROOT / "models" / "smollm2-135m"


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(FOLDER)


@pytest.mark.parametrize("text", ["The capital of France is Paris.", "def add(a, b):\n    return a + b\n"])
def test_the_embedded_model_predicts_text_far_better_than_chance(model: PreTrainedModel, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        loss = float(model(ids, labels=ids).loss)
    assert loss < math.log(len(tokenizer)) / 2


def test_the_embedded_model_is_plain_safetensors_that_can_be_trained(model: PreTrainedModel) -> None:
    assert model.num_parameters() == 134_515_008
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert not getattr(model, "is_quantized", False)

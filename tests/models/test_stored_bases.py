"""Bases as the hub has them: quantised, with settings that cannot be saved, with tokens beyond the model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import ModelConfig

from blocklm.errors import UserError
from blocklm.models.adapter import check_targets, lora_config
from blocklm.models.loading import load_base, load_plain_base
from blocklm.models.precision import Precision
from blocklm.models.pretrained import load_config, load_tokenizer, load_tokenizer_alone, special_tokens
from blocklm.models.quantization import keys_as_stored
from blocklm.models.savable import rehearse_saving
from blocklm.training.planning.fake_model import fake_model
from tests.support.trainers import tiny_trainer

BF16 = Precision(False, True, torch.bfloat16, "test")
FP32 = Precision(False, False, torch.float32, "test")


@pytest.fixture(scope="module")
def four(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama, stored in 4 bit on a card that computes in fp16."""
    folder = tmp_path_factory.mktemp("stored") / "tiny-bnb-4bit"
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float16,
        bnb_4bit_use_double_quant=True,
    )
    model = AutoModelForCausalLM.from_pretrained(
        tiny_models["llama"], quantization_config=quantised, device_map={"": "cpu"}
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_models["llama"]).save_pretrained(folder)
    return folder


def copy_of(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder)
    return folder


@pytest.mark.parametrize("asked", [False, True])
def test_a_base_stored_in_4_bit_is_loaded_as_it_is_stored(four: Path, asked: bool) -> None:
    """Its products have the dtype of this device, not the one stored with it."""
    model = load_base(ModelConfig(model_name_or_path=str(four), load_in_4bit=asked), BF16)
    layer = model.model.layers[0].mlp.up_proj
    assert isinstance(layer, Linear4bit)
    assert layer.compute_dtype == torch.bfloat16
    assert layer.weight.quant_type == "nf4"


def test_a_base_stored_in_4_bit_is_trained(four: Path, tmp_path: Path) -> None:
    trainer = tiny_trainer(four, tmp_path / "run", {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no"})
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert any(not torch.equal(after[name], weight) for name, weight in before.items())


def test_a_base_stored_in_4_bit_is_planned_in_4_bit(four: Path) -> None:
    keys = ModelConfig(model_name_or_path=str(four), use_peft=True)
    config = load_config(keys)
    stored = keys_as_stored(keys, config)
    assert (stored.load_in_4bit, stored.bnb_4bit_quant_type, stored.use_bnb_nested_quant) == (True, "nf4", True)
    model = fake_model(config, stored, BF16, checkpointing=False).model
    assert model.get_base_model().model.layers[0].mlp.up_proj.base_layer.four_bit


def test_merging_uses_the_dequantised_weights(four: Path) -> None:
    keys = ModelConfig(model_name_or_path=str(four))
    assert load_plain_base(keys, BF16, "auto").dtype == torch.bfloat16
    model = load_plain_base(keys, BF16, "float32")
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    assert model.model.layers[0].mlp.up_proj.weight.shape == (128, 64)
    assert not isinstance(model.model.layers[0].mlp.up_proj, Linear4bit)


def test_a_quantised_base_cannot_be_trained_without_lora(four: Path) -> None:
    keys = ModelConfig(model_name_or_path=str(four))
    with pytest.raises(UserError, match="cannot be trained without LoRA"):
        lora_config(load_base(keys, BF16), keys)


def test_a_base_stored_in_other_bits_than_the_recipe_sets_is_refused(four: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`load_in_8bit: true`, but `.*` is stored in 4 bit") as refused:
        load_base(ModelConfig(model_name_or_path=str(four), load_in_8bit=True), BF16)
    assert f"such as `{four.with_name('tiny')}`" in refused.value.hint


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "mxfp4"])
def test_a_base_in_an_untrainable_format_names_the_16_bit_base(
    tiny_models: dict[str, Path], tmp_path: Path, method: str
) -> None:
    model = copy_of(tiny_models["llama"], tmp_path / f"tiny-{method}".upper())
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": method, "bits": 4}})
    )
    keys = ModelConfig(model_name_or_path=str(model))
    with pytest.raises(UserError, match=f"is stored as {method}, which cannot be trained here") as refused:
        load_base(keys, BF16)
    assert "set `model_name_or_path` to its 16-bit base" in refused.value.hint


def test_8_bit_is_stored_bits_too(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    keys = ModelConfig(model_name_or_path=str(tiny_models["llama"]), load_in_8bit=True)
    folder = copy_of(tiny_models["llama"], tmp_path / "eight")
    load_base(keys, BF16).save_pretrained(folder)
    again = load_base(replace(keys, model_name_or_path=str(folder), load_in_8bit=False), BF16)
    assert isinstance(again.model.layers[0].mlp.up_proj, Linear8bitLt)


@pytest.mark.parametrize(
    "odd",
    [
        {"do_sample": False, "temperature": 0.9, "top_p": 0.6},
        {"temperature": 0.6, "top_k": 20, "min_p": 0.1},
        {"typical_p": 0.5, "epsilon_cutoff": 0.1},
        {"pad_token_id": -1},
        {"length_penalty": 2.0, "early_stopping": True},
        {"use_cache": False, "cache_implementation": "static"},
        {"output_scores": True},
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
    ],
)
def test_a_generation_config_that_transformers_refuses_to_write_is_corrected(
    tiny_models: dict[str, Path], tmp_path: Path, odd: dict[str, object]
) -> None:
    model = copy_of(tiny_models["llama"], tmp_path / "odd")
    path = model / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | odd))
    loaded = load_base(ModelConfig(model_name_or_path=str(model)), FP32)
    loaded.generation_config.pad_token_id = 0  # what the trainer does
    loaded.save_pretrained(tmp_path / "saved")
    (tmp_path / "rehearsed").mkdir()
    rehearse_saving(
        get_peft_model(loaded, lora_config(loaded, ModelConfig(use_peft=True))), str(tmp_path / "rehearsed")
    )
    kept = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
    assert kept["eos_token_id"] == 0
    if odd.get("do_sample"):
        assert (kept["do_sample"], kept["temperature"]) == (True, 0.7), "what is sound stays"


def test_a_pad_token_beyond_the_model_falls_back_to_the_end_of_text(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    model = copy_of(tiny_models["llama"], tmp_path / "padded")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(410 - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    loaded = load_tokenizer(ModelConfig(model_name_or_path=str(model)))
    assert loaded.pad_token_id == loaded.eos_token_id == 0
    assert "[PAD]" in special_tokens(loaded), "a text that holds it is left out"


def test_other_tokens_beyond_the_model_are_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    model = copy_of(tiny_models["llama"], tmp_path / "beyond")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens([f"<extra_{number}>" for number in range(412 - len(tokenizer))])
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(model)
    with pytest.raises(
        UserError, match="has 2 tokens beyond the 410 rows of its model, the first `<extra_"
    ) as refused:
        load_tokenizer(ModelConfig(model_name_or_path=str(model)))
    assert "embeddings" in refused.value.hint
    with pytest.raises(UserError, match="has 2 tokens beyond the 410 rows of its model"):
        load_tokenizer_alone(model)


@pytest.mark.parametrize(("family", "head"), [("llama", "lm_head"), ("phi", "lm_head"), ("gpt2", "lm_head")])
def test_the_head_takes_no_adapter_and_no_hint_offers_it(tiny_models: dict[str, Path], family: str, head: str) -> None:
    model = load_base(ModelConfig(model_name_or_path=str(tiny_models[family])), FP32)
    with pytest.raises(UserError, match=f"names `{head}`, the head of") as refused:
        check_targets(model, [head])
    assert "lora_modules_to_save" in refused.value.hint
    with pytest.raises(UserError, match="names `nowhere`") as refused:
        check_targets(model, ["nowhere"])
    assert head not in refused.value.hint


@pytest.mark.parametrize("key", ["lora_modules_to_save", "lora_target_parameters"])
def test_a_lora_target_that_names_no_layer_is_refused(tiny_models: dict[str, Path], key: str) -> None:
    keys = ModelConfig(model_name_or_path=str(tiny_models["llama"]), use_peft=True, **{key: ["nowhere"]})
    with pytest.raises(UserError, match=f"`{key}` names `nowhere`, which the model does not have"):
        lora_config(load_base(keys, FP32), keys)


def test_an_attention_that_the_architecture_lacks_is_refused(tiny_models: dict[str, Path]) -> None:
    keys = ModelConfig(model_name_or_path=str(tiny_models["llama"]), attn_implementation="flash_attention_2")
    with pytest.raises(UserError, match="cannot be set up with these keys"):
        fake_model(load_config(keys), keys, FP32, checkpointing=False)

"""Adapters need layers that exist; an error about a missing model names the way to get it."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from trl import ModelConfig

from blocklm.errors import UserError
from blocklm.models.adapter import check_targets, lora_config
from blocklm.models.loading import load_base
from blocklm.models.precision import Precision, choose_precision
from blocklm.models.pretrained import check_length, load_tokenizer, special_tokens

FP32 = Precision(False, False, torch.float32, "test")


@pytest.mark.parametrize(
    ("family", "wrong"), [("starcoder2", "gate_proj"), ("phi", "Wqkv"), ("gpt2", "q_proj"), ("llama", "c_attn")]
)
def test_a_target_of_another_architecture_is_an_error(tiny_models: dict[str, Path], family: str, wrong: str) -> None:
    model = load_base(ModelConfig(model_name_or_path=str(tiny_models[family])), FP32)
    with pytest.raises(UserError, match=f"names `{wrong}`") as refused:
        check_targets(model, [wrong])
    assert "c_fc" in refused.value.hint or "fc1" in refused.value.hint or "gate_proj" in refused.value.hint


def test_one_wrong_target_among_right_ones_is_an_error(tiny_models: dict[str, Path]) -> None:
    """PEFT itself ignores it without an error."""
    config = ModelConfig(
        model_name_or_path=str(tiny_models["starcoder2"]), use_peft=True, lora_target_modules=["q_proj", "up_proj"]
    )
    with pytest.raises(UserError, match="names `up_proj`"):
        lora_config(load_base(config, FP32), config)


def test_without_targets_every_linear_layer_is_adapted(tiny_models: dict[str, Path]) -> None:
    from peft import get_peft_model

    config = ModelConfig(model_name_or_path=str(tiny_models["phi"]), use_peft=True)
    model = load_base(config, FP32)
    adapted = get_peft_model(model, lora_config(model, config))
    names = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert names == {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}


@pytest.mark.parametrize("bits", [4, 8])
def test_the_base_is_quantised_for_real(tiny_models: dict[str, Path], bits: int) -> None:
    import bitsandbytes

    config = ModelConfig(
        model_name_or_path=str(tiny_models["starcoder2"]),
        load_in_4bit=bits == 4,
        load_in_8bit=bits == 8,
        use_peft=True,
    )
    model = load_base(config, Precision(False, True, torch.bfloat16, "test"))
    kind = bitsandbytes.nn.Linear4bit if bits == 4 else bitsandbytes.nn.Linear8bitLt
    layer = model.model.layers[0].mlp.c_fc
    assert isinstance(layer, kind)
    if bits == 4:
        assert layer.compute_dtype == torch.bfloat16
        assert layer.weight.quant_type == "nf4"


def test_a_quantised_base_needs_lora(tiny_models: dict[str, Path]) -> None:
    config = ModelConfig(model_name_or_path=str(tiny_models["llama"]), load_in_4bit=True)
    with pytest.raises(UserError, match="cannot be trained without LoRA"):
        lora_config(load_base(config, FP32), config)


def test_a_missing_directory_is_named() -> None:
    with pytest.raises(UserError, match="`models/absent` does not exist"):
        load_tokenizer(ModelConfig(model_name_or_path="models/absent"))


def test_a_model_that_cannot_be_fetched_names_the_download_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client decides what counts as offline; `HF_HUB_OFFLINE=0` does not."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "" if constants.HF_HUB_OFFLINE else "0")
    with pytest.raises(UserError, match="`nobody/nothing-3b` is not in the local cache") as refused:
        load_tokenizer(ModelConfig(model_name_or_path="nobody/nothing-3b"))
    assert "hf download nobody/nothing-3b --local-dir models/nothing-3b" in refused.value.hint
    assert ("HF_HUB_OFFLINE is set" in str(refused.value)) == constants.HF_HUB_OFFLINE


def test_a_directory_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not a causal language model"):
        load_tokenizer(ModelConfig(model_name_or_path=str(tmp_path)))


def test_a_length_beyond_the_positions_is_refused(tiny_models: dict[str, Path]) -> None:
    config = ModelConfig(model_name_or_path=str(tiny_models["gpt2"]))
    check_length(config, 1024)
    with pytest.raises(UserError, match="more than the 1024 positions"):
        check_length(config, 1025)


def test_special_tokens_determine_the_family(tiny_models: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(ModelConfig(model_name_or_path=str(tiny_models["starcoder2"])))
    assert {"<file_sep>", "<|endoftext|>"} <= special_tokens(tokenizer)
    assert tokenizer.pad_token_id is not None


def test_precision_sets_both_flags_and_has_a_reason() -> None:
    automatic = choose_precision(None, None)
    assert not automatic.fp16
    assert automatic.bf16 == (automatic.dtype == torch.bfloat16)
    assert automatic.reason
    off = choose_precision(None, False)
    assert (off.fp16, off.bf16, off.dtype) == (False, False, torch.float32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="fp16 is right where there is a GPU")
def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="`fp16` needs a GPU"):
        choose_precision(True, None)

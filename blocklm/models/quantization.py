"""How a base model is quantised: as the recipe says, or as it is stored."""

import re
from dataclasses import replace
from typing import Any

import torch
from transformers import PretrainedConfig
from trl import ModelConfig

from blocklm.errors import UserError

# How the hub's copies of a model in few bits are called after it.
COPY = re.compile(r"[-_.](unsloth-)?(bnb-[48]bit|gptq|awq|fp8|int[48]|gguf|mlx|exl2|quantized)\b.*$", re.IGNORECASE)


def stored_quantization(config: PretrainedConfig) -> dict[str, Any] | None:
    """How the weights of a model are stored, None if they are not quantised."""
    found = getattr(config, "quantization_config", None)
    if found is None:
        found = getattr(config.get_text_config(), "quantization_config", None)
    return dict(found if isinstance(found, dict) else found.to_dict()) if found else None


def keys_as_stored(keys: ModelConfig, config: PretrainedConfig) -> ModelConfig:
    """The keys of a recipe, with the quantisation in which its base is stored.

    Raises:
        UserError: it is stored in a form that is not trained here, or in another than the recipe asks for.
    """
    stored = stored_quantization(config)
    if stored is None:
        return keys
    name = str(keys.model_name_or_path)
    if not (stored.get("load_in_4bit") or stored.get("load_in_8bit")):
        raise UserError(
            f"`{name}` is stored as {stored.get('quant_method', 'an unknown form')}, which cannot be trained here",
            f"set `model_name_or_path` to its 16-bit base{_guess(name)}, with `load_in_4bit: true` to save memory",
        )
    four = bool(stored.get("load_in_4bit"))
    if (keys.load_in_8bit, keys.load_in_4bit)[not four]:
        asked, present = ("load_in_8bit", 4) if four else ("load_in_4bit", 8)
        raise UserError(
            f"`{asked}: true`, but `{name}` is stored in {present} bit",
            f"leave `{asked}` out, or set `model_name_or_path` to its 16-bit base{_guess(name)}",
        )
    return replace(
        keys,
        load_in_4bit=four,
        load_in_8bit=not four,
        bnb_4bit_quant_type=stored.get("bnb_4bit_quant_type") or "fp4",
        use_bnb_nested_quant=bool(stored.get("bnb_4bit_use_double_quant")),
    )


def compute_in(config: PretrainedConfig, dtype: torch.dtype) -> None:
    """Let a base that is stored in 4 bit compute in `dtype`, whatever the device of its maker had."""
    stored = stored_quantization(config)
    assert stored is not None, "it was asked before"
    name = str(dtype).removeprefix("torch.")
    config.quantization_config = stored | ({"bnb_4bit_compute_dtype": name} if stored.get("load_in_4bit") else {})


def _guess(name: str) -> str:
    plain = COPY.sub("", name)
    return "" if plain == name else f", such as `{plain}`"

"""Reconciles the quantisation that a recipe asks for with the one in which its base model is stored."""

import re
from dataclasses import replace
from typing import Any

import torch
from transformers import PretrainedConfig
from trl import ModelConfig

from blocklm.errors import UserError

# The suffix that names of quantised copies on the hub add to the name of the model.
COPY_SUFFIX = re.compile(
    r"[-_.](unsloth-)?(bnb-[48]bit|gptq|awq|fp8|int[48]|gguf|mlx|exl2|quantized)\b.*$", re.IGNORECASE
)


def stored_quantization(config: PretrainedConfig) -> dict[str, Any] | None:
    """Return the configuration in which a model's weights are quantised; None if they are not."""
    stored = getattr(config, "quantization_config", None)
    if stored is None:
        stored = getattr(config.get_text_config(), "quantization_config", None)
    return dict(stored if isinstance(stored, dict) else stored.to_dict()) if stored else None


def keys_as_stored(keys: ModelConfig, config: PretrainedConfig) -> ModelConfig:
    """Return a recipe's keys with the quantisation in which its base is stored; unchanged keys if it is not quantised.

    Args:
        keys: the recipe's keys of the model.
        config: the configuration that is stored with the model.

    Raises:
        UserError: the base is stored in a form that cannot be trained, or in other bits than the recipe asks for.
    """
    stored = stored_quantization(config)
    if stored is None:
        return keys
    name = str(keys.model_name_or_path)
    if not (stored.get("load_in_4bit") or stored.get("load_in_8bit")):
        raise UserError(
            f"`{name}` is stored as {stored.get('quant_method', 'an unknown form')}, which cannot be trained here",
            f"set `model_name_or_path` to its 16-bit base{_suggestion(name)}, with `load_in_4bit: true` to save memory",
        )
    four = bool(stored.get("load_in_4bit"))
    if (keys.load_in_8bit, keys.load_in_4bit)[not four]:
        wrong, bits = ("load_in_8bit", 4) if four else ("load_in_4bit", 8)
        raise UserError(
            f"`{wrong}: true`, but `{name}` is stored in {bits} bit",
            f"leave `{wrong}` out, or set `model_name_or_path` to its 16-bit base{_suggestion(name)}",
        )
    return replace(
        keys,
        load_in_4bit=four,
        load_in_8bit=not four,
        bnb_4bit_quant_type=stored.get("bnb_4bit_quant_type") or "fp4",
        use_bnb_nested_quant=bool(stored.get("bnb_4bit_use_double_quant")),
    )


def set_compute_dtype(config: PretrainedConfig, dtype: torch.dtype) -> None:
    """Let a base that is stored in 4 bit compute in `dtype`, in place of the dtype that is stored with it."""
    stored = stored_quantization(config)
    assert stored is not None, "only stored quantisation has a dtype to replace"
    name = str(dtype).removeprefix("torch.")
    config.quantization_config = stored | ({"bnb_4bit_compute_dtype": name} if stored.get("load_in_4bit") else {})


def _suggestion(name: str) -> str:
    """Name the base of a quantised copy, for a hint; empty if the copy's name does not tell it."""
    plain = COPY_SUFFIX.sub("", name)
    return "" if plain == name else f", such as `{plain}`"

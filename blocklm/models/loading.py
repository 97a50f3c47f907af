"""Loads a base model as the recipe quantises it, or what a run made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from trl import ModelConfig, get_quantization_config

from blocklm.errors import UserError
from blocklm.models.attention import repeat_grouped_heads
from blocklm.models.distributed import is_sharded
from blocklm.models.precision import Precision
from blocklm.models.pretrained import load_config, load_error, resolve_name
from blocklm.models.quantization import keys_as_stored, set_compute_dtype
from blocklm.models.savable import make_savable


def load_base(config: ModelConfig, precision: Precision, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load the base model, quantised if the recipe says so or if it is stored so.

    A quantised model is loaded on this process's device, and its other weights get the dtype of the matrix products.
    Any other model is loaded in the recipe's `dtype`, which is fp32 by default.

    Args:
        config: the recipe's keys of the model.
        precision: precision on this device.
        trust_remote_code: if true, code that comes with the model may run.

    Raises:
        UserError: the model cannot be found, has an unknown architecture, or is stored in a form that cannot be
            trained.
    """
    name, stored = resolve_name(str(config.model_name_or_path)), load_config(config, trust_remote_code)
    keys = keys_as_stored(config, stored)
    quantization = get_quantization_config(replace(keys, dtype="float32"))  # bitsandbytes has no `auto`
    arguments: dict[str, Any] = {"dtype": config.dtype}
    if quantization is not None:
        # `auto` would spread one model over the devices of other processes (accelerate #1515).
        arguments = {"dtype": precision.dtype, "device_map": {"": PartialState().device}}
        # A `quantization_config` of None would replace the configuration that the model is stored with.
        arguments |= {"config": stored} if keys is not config else {"quantization_config": quantization}
    if keys is not config:
        set_compute_dtype(stored, precision.dtype)
    elif quantization is not None and keys.load_in_4bit:
        quantization.bnb_4bit_compute_dtype = precision.dtype
        if is_sharded() and config.bnb_4bit_quant_storage is None:
            # FSDP splits floating-point weights only; stored as bytes, each process would keep all of them.
            quantization.bnb_4bit_quant_storage = precision.dtype
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.model_revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=config.attn_implementation,
            **arguments,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise load_error(name, error) from error
    prepare_base(model)
    return model


def prepare_base(model: PreTrainedModel) -> None:
    """Make a base savable, keep its quantised weights as they are, and suit its attention to the device."""
    make_savable(model)
    repeat_grouped_heads()
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a weight at its first evaluation and at every save,
            # and rounds its scales each time. The base would change during training, and a resumed run would differ
            # from an uninterrupted one.
            module.support_avx512bf16_for_cpu = False


def load_plain_base(
    config: ModelConfig, precision: Precision, dtype: str, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load the base model without quantisation, on the CPU.

    Args:
        config: the recipe's keys of the model.
        precision: precision on this device.
        dtype: dtype of the weights; `auto` for that of the stored weights.
        trust_remote_code: if true, code that comes with the model may run.

    Raises:
        UserError: the model cannot be found.
    """
    plain = replace(config, load_in_4bit=False, load_in_8bit=False, dtype=dtype)
    model = load_base(plain, precision, trust_remote_code)
    if not getattr(model, "is_quantized", False):
        return model
    # A base that is stored in 4 bit has no weights but these, and an adapter was trained on exactly these.
    dequantised: PreTrainedModel = model.dequantize()
    return dequantised.cpu().to(precision.dtype if dtype == "auto" else getattr(torch, dtype))


def load_tuned(
    config: ModelConfig, precision: Precision, run_dir: Path, trust_remote_code: bool = False
) -> PreTrainedModel | PeftModel:
    """Load what a run saved: its adapter on the recipe's base, or its fully tuned model.

    Raises:
        UserError: `run_dir` contains neither.
    """
    if (run_dir / "adapter_config.json").is_file():
        return PeftModel.from_pretrained(load_base(config, precision, trust_remote_code), run_dir)
    if (run_dir / "config.json").is_file():
        return load_base(replace(config, model_name_or_path=f"{run_dir.absolute()}"), precision, trust_remote_code)
    raise UserError(f"`{run_dir}` contains no trained model", "run `scripts/train.py` to its end first")

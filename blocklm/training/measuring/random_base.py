"""A base model with random weights: as large and as slow as the published one, and not a byte of it is downloaded."""

import copy
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState, init_empty_weights
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.pytorch_utils import Conv1D
from transformers.quantizers import AutoHfQuantizer
from trl import ModelConfig, get_quantization_config

from blocklm.models.loading import prepare_base
from blocklm.models.precision import Precision
from blocklm.models.quantization import keys_as_stored

SPREAD = 0.02  # standard deviation of the weights, with which transformers initialises most models
END = "<|endoftext|>"


def random_base(
    config: PretrainedConfig, keys: ModelConfig, precision: Precision, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Build the base that `load_base` would load, with random weights, on this process's device.

    The weights are made and quantised one after the other, so that no more than one of them is whole at a time.

    Args:
        config: the model's architecture.
        keys: the recipe's keys of the model.
        precision: precision on this device.
        trust_remote_code: if true, the architecture's own code may run.

    Raises:
        UserError: the base is stored in a form that cannot be trained.
    """
    keys, config = keys_as_stored(keys, config), copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    quantization = get_quantization_config(replace(keys, dtype="float32"))  # bitsandbytes has no `auto`
    dtype: Any = config.dtype if keys.dtype == "auto" else keys.dtype
    with init_empty_weights(include_buffers=False):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=dtype if quantization is None else precision.dtype,
            attn_implementation=keys.attn_implementation,
            trust_remote_code=trust_remote_code,
        )
    if quantization is None:
        _fill(model, None)
    else:
        if keys.load_in_4bit:
            quantization.bnb_4bit_compute_dtype = precision.dtype
        quantizer = AutoHfQuantizer.from_config(quantization)
        device_map = {"": PartialState().device}
        quantizer.preprocess_model(model=model, device_map=device_map)
        _fill(model, quantizer)
        model.hf_quantizer = quantizer
        quantizer.postprocess_model(model)
    model.tie_weights()
    prepare_base(model)
    return model.eval()


def _fill(model: PreTrainedModel, quantizer: Any) -> None:
    """Give each weight random values on this process's device, quantised if the quantizer says so."""
    device = PartialState().device
    for name, parameter in list(model.named_parameters()):
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        values = _random_values(own, parameter, model.dtype, device)
        if quantizer is not None and quantizer.param_needs_quantization(model, name):
            if issubclass(module.source_cls, Conv1D):  # the quantizer transposes what is stored in this layer's form
                values = values.T
            weight = quantizer.get_quantize_ops().convert({name: values}, full_layer_name=name, model=model)[name]
        else:
            weight = torch.nn.Parameter(values, requires_grad=parameter.requires_grad)
        module._parameters[own] = weight
    for module in model.modules():
        for own, buffer in module._buffers.items():
            module._buffers[own] = None if buffer is None else buffer.to(device)


def _random_values(name: str, like: torch.nn.Parameter, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Make values as at the beginning of a training: biases of 0, scales of 1, and small random matrices."""
    if like.ndim < 2:
        return torch.full(like.shape, float(name != "bias"), dtype=dtype, device=device)
    return torch.empty(like.shape, dtype=dtype, device=device).normal_(std=SPREAD)


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """Make a tokenizer whose tokens are the 256 bytes and an end of text, for models without files of their own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate([END, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast: PreTrainedTokenizerBase = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    return fast

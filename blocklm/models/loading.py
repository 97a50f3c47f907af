"""Loads a model's tokenizer and configuration, the base model as the recipe quantises it, or what a run made of it."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from bitsandbytes.nn import Linear4bit
from huggingface_hub import constants
from peft import PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl import ModelConfig, get_quantization_config

from blocklm.errors import UserError
from blocklm.models.distributed import is_sharded
from blocklm.models.location import resolve_name
from blocklm.models.precision import Precision
from blocklm.models.quantization import keys_as_stored, set_compute_dtype
from blocklm.models.savable import make_savable


def model_config(keys: dict[str, Any]) -> ModelConfig:
    """Build TRL's model arguments from a recipe's keys.

    A null key counts as left out if the library's default is not null.

    Raises:
        UserError: the keys contradict each other, with the library's message.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    kept = {key: value for key, value in keys.items() if value is not None or defaults[key] is None}
    try:
        return ModelConfig(**kept)
    except ValueError as error:
        raise UserError(" ".join(str(error).split()), "correct these keys in the recipe") from error


def load_tokenizer(config: ModelConfig, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer; if it has no pad token, EOS takes its place and is trained all the same.

    Args:
        config: the recipe's keys of the model.
        trust_remote_code: if true, code that comes with the model may run.

    Raises:
        UserError: the model is no directory, not in the cache and not on the hub, its tokenizer has no EOS, or it has
            tokens that the model does not know.
    """
    name = resolve_name(str(config.model_name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _load_error(name, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of `{name}` has no EOS token",
            "use another model: with this one a completion could never end",
        )
    _check_ids(tokenizer, load_config(config, trust_remote_code), name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_ids(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Raise `UserError` if the model has no embedding row for a token.

    A pad token without a row is removed instead, because padding is never read.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    beyond = (
        []
        if rows is None
        else sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    )
    if beyond and tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        beyond = [(number, token) for number, token in beyond if number != tokenizer.pad_token_id]
        tokenizer.pad_token = None
    if beyond:
        raise UserError(
            f"the tokenizer of `{name}` has {len(beyond)} tokens beyond the {rows} rows of its model, the first `{beyond[0][1]}`",
            "use the tokenizer that the model was published with, or resize the model's embeddings and save it again",
        )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """Return the tokens that may not be read out of repository text, and that identify the model's prompt family.

    Runs of whitespace that a tokenizer adds, as that of Phi-2 does, are ordinary text.
    """
    added = frozenset(tokenizer.get_added_vocab()) | frozenset(tokenizer.all_special_tokens)
    return frozenset(token for token in added if token.strip())


def load_config(config: ModelConfig, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the model's configuration; nothing else is downloaded.

    Raises:
        UserError: the model is no directory, not in the cache and not on the hub.
    """
    name = resolve_name(str(config.model_name_or_path))
    try:
        loaded: PretrainedConfig = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _load_error(name, error) from error
    return loaded


def max_positions(config: PretrainedConfig) -> int | None:
    """Return the maximum tokens that a model can read; None if its configuration does not say."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def check_length(config: ModelConfig, max_length: int, trust_remote_code: bool = False) -> None:
    """Compare `max_length` with the number of the model's positions.

    Raises:
        UserError: the model cannot read so many tokens.
    """
    limit = max_positions(load_config(config, trust_remote_code))
    if limit is not None and max_length > limit:
        raise UserError(
            f"`max_length` {max_length} is more than the {limit} positions of `{config.model_name_or_path}`",
            f"set `max_length` to {limit}",
        )


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
        raise _load_error(name, error) from error
    make_savable(model)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a weight at its first evaluation and at every save,
            # and rounds its scales each time. The base would change during training, and a resumed run would differ
            # from an uninterrupted one.
            module.support_avx512bf16_for_cpu = False
    return model


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


def _load_error(name: str, error: Exception) -> UserError:
    """Explain why a model cannot be loaded: its directory is damaged, or it is not on this machine."""
    message = " ".join(str(error).split())[:200]
    if Path(name).is_dir():
        return UserError(
            f"`{name}` is not a causal language model that transformers can load: {message}", "download it again"
        )
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    folder = f"models/{name.rpartition('/')[2]}"
    return UserError(
        f"`{name}` is not in the local cache and could not be fetched{offline}: {message}",
        f"on a connected machine run `hf download {name} --local-dir {folder}`, copy the folder here and set "
        f"`model_name_or_path: {folder}`",
    )

"""Tokenizer, configuration and base model as the recipe quantises it, or what a run made of it."""

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
from blocklm.models.location import checked_name
from blocklm.models.precision import Precision
from blocklm.models.quantization import compute_in, keys_as_stored
from blocklm.models.savable import make_savable


def model_config(keys: dict[str, Any]) -> ModelConfig:
    """TRL's model arguments from a recipe's keys; raises `UserError` in the library's words if they contradict."""
    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    # A key that is null counts as left out where the library's default is another.
    kept = {key: value for key, value in keys.items() if value is not None or defaults[key] is None}
    try:
        return ModelConfig(**kept)
    except ValueError as error:
        raise UserError(" ".join(str(error).split()), "correct these keys in the recipe") from error


def load_tokenizer(config: ModelConfig, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """Load the model's tokenizer; a missing pad token becomes EOS, whose own labels stay trained.

    Raises:
        UserError: the model is neither a directory, nor cached, nor reachable; or its tokenizer has no EOS.
    """
    name = checked_name(str(config.model_name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _unreachable(name, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of `{name}` has no EOS token", "a completion could never end: use another model"
        )
    _check_ids(tokenizer, load_config(config, trust_remote_code), name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_ids(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Refuse tokens for which the model has no row; padding is never read, so that a pad token alone is left out."""
    rows = getattr(config.get_text_config(), "vocab_size", None)
    beyond = [] if rows is None else sorted((at, word) for word, at in tokenizer.get_vocab().items() if at >= rows)
    if beyond and tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        beyond = [(at, word) for at, word in beyond if at != tokenizer.pad_token_id]
        tokenizer.pad_token = None
    if beyond:
        word = beyond[0][1]
        raise UserError(
            f"the tokenizer of `{name}` has {len(beyond)} tokens beyond the {rows} rows of its model, the first `{word}`",
            "take the tokenizer that the model was published with, or resize the model's embeddings and save it again",
        )


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    """The tokens that must not come out of repository text, and that tell the model's family.

    Runs of whitespace that a tokenizer adds (Phi-2 does) are ordinary text.
    """
    added = frozenset(tokenizer.get_added_vocab()) | frozenset(tokenizer.all_special_tokens)
    return frozenset(token for token in added if token.strip())


def load_config(config: ModelConfig, trust_remote_code: bool = False) -> PretrainedConfig:
    """Load the model's configuration, and of a hub model nothing else.

    Raises:
        UserError: the model is neither a directory, nor cached, nor reachable.
    """
    name = checked_name(str(config.model_name_or_path))
    try:
        loaded: PretrainedConfig = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise _unreachable(name, error) from error
    return loaded


def positions(config: PretrainedConfig) -> int | None:
    """How many tokens a model can read, where its configuration says so."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def check_length(config: ModelConfig, max_length: int, trust_remote_code: bool = False) -> None:
    """Refuse a `max_length` beyond the model's position embeddings.

    Raises:
        UserError: the model cannot read that far.
    """
    limit = positions(load_config(config, trust_remote_code))
    if limit is not None and max_length > limit:
        raise UserError(
            f"`max_length` {max_length} is more than the {limit} positions of `{config.model_name_or_path}`",
            f"set it to {limit}",
        )


def load_base(config: ModelConfig, precision: Precision, trust_remote_code: bool = False) -> PreTrainedModel:
    """Load the base model, quantised if the recipe says so, on this process's device.

    A quantised model keeps its other weights in the compute dtype; one that is not quantised is loaded in the recipe's
    `dtype`, fp32 unless set.

    Raises:
        UserError: the model cannot be found or is of an unknown architecture.
    """
    name, stored = checked_name(str(config.model_name_or_path)), load_config(config, trust_remote_code)
    keys = keys_as_stored(config, stored)
    quantization = get_quantization_config(replace(keys, dtype="float32"))  # bitsandbytes has no `auto`
    given: dict[str, Any] = {"dtype": config.dtype}
    if quantization is not None:
        # `auto` would spread one model over the devices of other processes (accelerate #1515).
        given = {"dtype": precision.dtype, "device_map": {"": PartialState().device}}
        # transformers takes a `quantization_config` of None for one that replaces what the model is stored with.
        given |= {"config": stored} if keys is not config else {"quantization_config": quantization}
    if keys is not config:
        compute_in(stored, precision.dtype)
    elif quantization is not None and keys.load_in_4bit:
        quantization.bnb_4bit_compute_dtype = precision.dtype
        if is_sharded() and config.bnb_4bit_quant_storage is None:
            # FSDP splits floating weights only; as bytes each process would keep all of them.
            quantization.bnb_4bit_quant_storage = precision.dtype
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name,
            revision=config.model_revision,
            trust_remote_code=trust_remote_code,
            attn_implementation=config.attn_implementation,
            **given,
        )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise _unreachable(name, error) from error
    make_savable(model)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            # On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a weight at its first evaluation and rounds its
            # scales, again at every save: the base would drift during training and a resumed run would differ from a
            # whole one.
            module.support_avx512bf16_for_cpu = False
    return model


def load_plain_base(
    config: ModelConfig, precision: Precision, dtype: str, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load the base model without quantisation, on the CPU.

    Args:
        config: the recipe's keys of the model.
        precision: what this device computes in.
        dtype: dtype of its weights; `auto` is its own.
        trust_remote_code: whether the model's own code may run.

    Raises:
        UserError: the model cannot be found.
    """
    plain = replace(config, load_in_4bit=False, load_in_8bit=False, dtype=dtype)
    model = load_base(plain, precision, trust_remote_code)
    if not getattr(model, "is_quantized", False):
        return model
    # What is stored in 4 bit has no other weights than these: an adapter was trained on exactly them.
    whole: PreTrainedModel = model.dequantize()
    return whole.cpu().to(precision.dtype if dtype == "auto" else getattr(torch, dtype))


def load_tuned(
    config: ModelConfig, precision: Precision, run_dir: Path, trust_remote_code: bool = False
) -> PreTrainedModel | PeftModel:
    """Load what a run saved: its adapter on the recipe's base, or its fully tuned model.

    Raises:
        UserError: `run_dir` holds neither.
    """
    if (run_dir / "adapter_config.json").is_file():
        return PeftModel.from_pretrained(load_base(config, precision, trust_remote_code), run_dir)
    if (run_dir / "config.json").is_file():
        return load_base(replace(config, model_name_or_path=f"{run_dir.absolute()}"), precision, trust_remote_code)
    raise UserError(f"`{run_dir}` holds no trained model", "run `scripts/train.py` to its end first")


def _unreachable(name: str, error: Exception) -> UserError:
    said = " ".join(str(error).split())[:200]
    if Path(name).is_dir():
        return UserError(
            f"`{name}` is not a causal language model that transformers can load: {said}", "download it again"
        )
    offline = " (HF_HUB_OFFLINE is set)" if constants.HF_HUB_OFFLINE else ""
    folder = f"models/{name.rpartition('/')[2]}"
    return UserError(
        f"`{name}` is not in the local cache and could not be fetched{offline}: {said}",
        f"on a connected machine run `hf download {name} --local-dir {folder}`, copy the folder here and set "
        f"`model_name_or_path: {folder}`",
    )

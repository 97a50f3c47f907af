"""A pretrained model by its name, without its weights: where its files are, its configuration and its tokenizer.

Importing this module loads no model library, and a tokenizer needs only transformers.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, try_to_load_from_cache

from blocklm.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from trl import ModelConfig


def checked_name(name: str) -> str:
    """The name of a model as the libraries take it: a directory with `~` expanded, or a name on the hub.

    Raises:
        UserError: the name is that of a directory, which does not exist.
    """
    looks_local = name.startswith((".", "/", "~", "models/")) or name.count("/") > 1
    if looks_local and not Path(name).expanduser().is_dir():
        remedy = (
            "`bash scripts/quickstart.sh` fetches the embedded model; others: `hf download ORG/NAME --local-dir DIR`"
        )
        raise UserError(f"the model directory `{name}` does not exist", remedy)
    return str(Path(name).expanduser()) if looks_local else name


def local_folder(name: str, revision: str) -> Path | None:
    """The folder with a model's files: its directory, or the hub's cache at a revision; None if neither has them.

    Args:
        name: directory, or name on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: the name is that of a directory, which does not exist.
    """
    place = checked_name(name)
    if Path(place).is_dir():
        return Path(place)
    try:
        config = try_to_load_from_cache(place, "config.json", revision=revision)
    except ValueError:  # no name that the hub allows
        return None
    return Path(config).parent if isinstance(config, str) else None


def model_config(keys: dict[str, Any]) -> "ModelConfig":
    """TRL's model arguments from a recipe's keys; raises `UserError` in the library's words if they contradict."""
    from trl import ModelConfig

    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    # A key that is null counts as left out where the library's default is another.
    kept = {key: value for key, value in keys.items() if value is not None or defaults[key] is None}
    try:
        return ModelConfig(**kept)
    except ValueError as error:
        raise UserError(" ".join(str(error).split()), "correct these keys in the recipe") from error


def load_tokenizer(config: "ModelConfig", trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """Load the model's tokenizer; a missing pad token becomes EOS, whose own labels stay trained.

    Raises:
        UserError: the model is neither a directory, nor cached, nor reachable; or its tokenizer has no EOS.
    """
    from transformers import AutoTokenizer  # heavy

    name = checked_name(str(config.model_name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise unreachable(name, error) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of `{name}` has no EOS token", "a completion could never end: use another model"
        )
    _check_ids(tokenizer, load_config(config, trust_remote_code), name)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _check_ids(tokenizer: "PreTrainedTokenizerBase", config: "PretrainedConfig", name: str) -> None:
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


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[str]:
    """The tokens that must not come out of repository text, and that tell the model's family.

    Runs of whitespace that a tokenizer adds (Phi-2 does) are ordinary text.
    """
    added = frozenset(tokenizer.get_added_vocab()) | frozenset(tokenizer.all_special_tokens)
    return frozenset(token for token in added if token.strip())


def load_config(config: "ModelConfig", trust_remote_code: bool = False) -> "PretrainedConfig":
    """Load the model's configuration, and of a hub model nothing else.

    Raises:
        UserError: the model is neither a directory, nor cached, nor reachable.
    """
    from transformers import AutoConfig  # heavy

    name = checked_name(str(config.model_name_or_path))
    try:
        loaded: PretrainedConfig = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise unreachable(name, error) from error
    return loaded


def positions(config: "PretrainedConfig") -> int | None:
    """How many tokens a model can read, where its configuration says so."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def check_length(config: "ModelConfig", max_length: int, trust_remote_code: bool = False) -> None:
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


def unreachable(name: str, error: Exception) -> UserError:
    """The refusal of a model that could not be loaded.

    Args:
        name: directory, or name on the hub.
        error: what the library raised.
    """
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

"""A pretrained model by its name, without its weights: where its files are, its configuration and its tokenizer.

Importing this module loads no model library, and a tokenizer needs only transformers.
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, try_to_load_from_cache

from blocklm.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from trl import ModelConfig


def resolve_name(name: str) -> str:
    """Return a model's name as the libraries take it: a directory with `~` expanded, or a name on the hub.

    Args:
        name: directory, or name on the hub.

    Raises:
        UserError: `name` is a path to a directory that does not exist.
    """
    looks_local = name.startswith((".", "/", "~", "models/")) or name.count("/") > 1
    if looks_local and not Path(name).expanduser().is_dir():
        raise UserError(
            f"the model directory `{name}` does not exist",
            "run `bash scripts/quickstart.sh` for the embedded model, or `hf download ORG/NAME --local-dir DIR` for "
            "another",
        )
    return str(Path(name).expanduser()) if looks_local else name


def find_folder(name: str, revision: str) -> Path | None:
    """Find the folder with a model's files: its directory, or the hub's cache; return None if neither has them.

    Args:
        name: directory, or name on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        UserError: `name` is a path to a directory that does not exist.
    """
    resolved = resolve_name(name)
    if Path(resolved).is_dir():
        return Path(resolved)
    try:
        config = try_to_load_from_cache(resolved, "config.json", revision=revision)
    except ValueError:  # the hub does not allow such a name
        return None
    return Path(config).parent if isinstance(config, str) else None


def model_config(keys: dict[str, Any]) -> "ModelConfig":
    """Build TRL's model arguments from a recipe's keys.

    A null key counts as left out if the library's default is not null.

    Raises:
        UserError: the keys contradict each other, with the library's message.
    """
    from trl import ModelConfig

    defaults = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    kept = {key: value for key, value in keys.items() if value is not None or defaults[key] is None}
    try:
        return ModelConfig(**kept)
    except ValueError as error:
        raise UserError(" ".join(str(error).split()), "correct these keys in the recipe") from error


def load_tokenizer(config: "ModelConfig", trust_remote_code: bool = False) -> "PreTrainedTokenizerBase":
    """Load the model's tokenizer; if it has no pad token, EOS takes its place and is trained all the same.

    Args:
        config: the recipe's keys of the model.
        trust_remote_code: if true, code that comes with the model may run.

    Raises:
        UserError: the model is no directory, not in the cache and not on the hub, its tokenizer has no EOS, or it has
            tokens that the model does not know.
    """
    from transformers import AutoTokenizer  # heavy

    name = resolve_name(str(config.model_name_or_path))
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise load_error(name, error) from error
    rows = getattr(load_config(config, trust_remote_code).get_text_config(), "vocab_size", None)
    return _checked(tokenizer, rows, name)


def load_tokenizer_alone(folder: Path) -> "PreTrainedTokenizerBase | None":
    """Load the tokenizer in a model's folder without torch, in a fifth of the time of `load_tokenizer`.

    It is the same as that of `load_tokenizer`, or None if the files do not name transformers' common class, which is
    named for most models that transformers 5 has saved.

    Raises:
        UserError: as `load_tokenizer`.
    """
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        common = settings["tokenizer_class"] == "TokenizersBackend" and isinstance(config["vocab_size"], int)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    others = {"auto_map", "text_config"} & {*settings, *config}  # a class or a number of rows of its own
    if not common or others or (folder / "tekken.json").exists():
        return None
    # `AutoTokenizer` would import torch to read the model's configuration.
    from transformers.tokenization_utils_tokenizers import TokenizersBackend  # heavy

    try:
        return _checked(TokenizersBackend.from_pretrained(folder), config["vocab_size"], str(folder))
    except (OSError, ValueError) as error:
        raise load_error(str(folder), error) from error


def _checked(tokenizer: "PreTrainedTokenizerBase", rows: int | None, name: str) -> "PreTrainedTokenizerBase":
    """Return a tokenizer with a pad token, or raise `UserError` if it does not suit a model of `rows` embedding rows.

    A pad token without a row is replaced, because padding is never read.
    """
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"the tokenizer of `{name}` has no EOS token",
            "use another model: with this one a completion could never end",
        )
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
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> frozenset[str]:
    """Return the tokens that may not be read out of repository text, and that identify the model's prompt family.

    Runs of whitespace that a tokenizer adds, as that of Phi-2 does, are ordinary text.
    """
    added = frozenset(tokenizer.get_added_vocab()) | frozenset(tokenizer.all_special_tokens)
    return frozenset(token for token in added if token.strip())


def load_config(config: "ModelConfig", trust_remote_code: bool = False) -> "PretrainedConfig":
    """Load the model's configuration; nothing else is downloaded.

    Raises:
        UserError: the model is no directory, not in the cache and not on the hub.
    """
    from transformers import AutoConfig  # heavy

    name = resolve_name(str(config.model_name_or_path))
    try:
        loaded: PretrainedConfig = AutoConfig.from_pretrained(
            name, revision=config.model_revision, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise load_error(name, error) from error
    return loaded


def max_positions(config: "PretrainedConfig") -> int | None:
    """Return the maximum tokens that a model can read; None if its configuration does not say."""
    limit: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return limit


def check_length(config: "ModelConfig", max_length: int, trust_remote_code: bool = False) -> None:
    """Compare `max_length` with the number of the model's positions.

    Raises:
        UserError: the model cannot read so many tokens.
    """
    check_positions(str(config.model_name_or_path), load_config(config, trust_remote_code), max_length)


def check_positions(name: str, config: "PretrainedConfig", max_length: int) -> None:
    """Compare `max_length` with the number of positions in a model's configuration.

    Raises:
        UserError: the model cannot read so many tokens.
    """
    limit = max_positions(config)
    if limit is not None and max_length > limit:
        raise UserError(
            f"`max_length` {max_length} is more than the {limit} positions of `{name}`",
            f"set `max_length` to {limit}",
        )


def load_error(name: str, error: Exception) -> UserError:
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

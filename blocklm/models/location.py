"""Finds the files of a base model on this machine, without a model library."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from blocklm.errors import UserError


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

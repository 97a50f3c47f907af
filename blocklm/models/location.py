"""Finds the files of a base model on this machine, without a model library."""

from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from blocklm.errors import UserError


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

"""Files written in one step, their digests, and names that every library can open."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from blocklm.errors import UserError


def write_json(path: Path, content: Any) -> None:
    """Replace `path` by `content` as JSON, in one step."""
    replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def replace_file(path: Path, text: str) -> None:
    r"""Write `path` in one step: a reader, a kill or another process sees the old file or the new one.

    A byte of a path that is no UTF-8 is written as JSON and YAML spell it, `\udce9`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_spelling(key: str, path: Path) -> None:
    """Refuse a path that Arrow and safetensors cannot open, before there is anything to lose.

    Raises:
        UserError: it is not spelled in UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise UserError(
            f"`{key}` {shown} is not spelled in UTF-8", f"give `{key}` a folder whose whole path is; `convmv` renames"
        ) from None


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

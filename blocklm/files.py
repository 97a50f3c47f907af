"""Reads and writes files: replacement in one step, JSON, JSON lines, digests, and a check of paths.

A new file is on the disk before it replaces the old one. A text that UTF-8 cannot encode, such as half of a surrogate
pair from a file name, is escaped in JSON and read back unchanged.
"""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from blocklm.errors import UserError


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON to `path`, in one step."""
    replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def json_line(row: Any) -> str:
    r"""Format `row` as one line of JSON, which contains no line end but the final `\n`."""
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON for each row to `path`, in one step."""
    replace_file(path, "".join(map(json_line, rows)))


def read_json_lines(path: Path, skip_torn: bool = False) -> list[Any]:
    r"""Read the rows of a file of JSON lines; return none if the file does not exist.

    A line ends only at `\n`; `str.splitlines` would also split at U+2028, U+2029 and U+0085, which JSON strings may
    contain.

    Args:
        path: the file.
        skip_torn: if true, skip lines that are not JSON, as a kill may leave one in a file that is appended to; by
            default they raise an error.

    Raises:
        ValueError: a line is not JSON.
    """
    rows = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                if not skip_torn:
                    raise
    return rows


def replace_file(path: Path, text: str) -> None:
    """Write `path` in one step: a reader, a kill or another process sees the old file or the new one."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path` at the end of this context; after an error it is deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_spelling(key: str, path: Path) -> None:
    """Check that Arrow and safetensors can open a path, before any work is done.

    Args:
        key: recipe key or argument that names the path, for the message.
        path: the path.

    Raises:
        UserError: the path is not spelled in UTF-8.
    """
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise UserError(
            f"`{key}` {shown} is not spelled in UTF-8",
            f"give `{key}` a path in UTF-8; `convmv` can rename the folders",
        ) from None


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Files written in one step, JSON, JSON lines, digests, and names that every library can open.

A file that is replaced is on the disk before it takes its name. JSON text may hold what no UTF-8 file can, such as
half of a surrogate pair out of a file name: it is escaped, and read back as it was.
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
    """Replace `path` by `content` as JSON, in one step."""
    replace_file(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def json_line(row: Any) -> str:
    r"""`row` as one line of JSON; its only line end is the `\n` that closes it."""
    return json.dumps(row, ensure_ascii=False, default=str) + "\n"


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Replace `path` by one line of JSON for each row, in one step."""
    replace_file(path, "".join(map(json_line, rows)))


def read_json_lines(path: Path, skip_torn: bool = False) -> list[Any]:
    r"""The rows of a file of JSON lines; none if there is no such file.

    A line ends at `\n` alone: `str.splitlines` also cuts at U+2028, U+2029 and U+0085, which JSON strings may hold.

    Args:
        path: the file.
        skip_torn: leave out what is no JSON, as a kill leaves it in a file that is appended to; default: raise.

    Raises:
        ValueError: a line is no JSON.
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
    """A file that takes the place of `path` when the block ends, and is gone when it raises."""
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
    """Refuse a path that Arrow and safetensors cannot open, before there is anything to lose.

    Raises:
        UserError: it is not spelled in UTF-8.
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
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

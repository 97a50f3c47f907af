"""Reads lines of a file to fill in or to change, with the text around them."""

import logging
from dataclasses import dataclass
from pathlib import Path

from blocklm.corpus.windows import windows
from blocklm.errors import UserError

# About 1,500 tokens, as many as training shows; more would take time, and the room of retrieved pieces.
BEFORE_CHARS, AFTER_CHARS = 4_000, 1_500

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Region:
    """Lines of a file and the text around them.

    Attributes:
        root: top folder of the repository.
        path: path of the file from there.
        text: the lines; empty for a gap.
        before: text before them, as much as a training sample shows.
        after: text after them, as much as a training sample shows.
    """

    root: Path
    path: str
    text: str
    before: str
    after: str


def region_of(file: Path, first: int, last: int | None = None) -> Region:
    """Read lines of a file and, around them, as much text as a training sample shows.

    Args:
        file: path of the file.
        first: number of the first line, from 1.
        last: number of the last line, included; None, the default, for the gap before `first`.

    Raises:
        UserError: the file cannot be read, or has no such lines.
    """
    lines = _read_lines(file)
    gap, last = last is None, first - 1 if last is None else last
    if not gap and last < first:
        raise UserError(f"`--lines {first}-{last}` ends before it begins", f"give `--lines {last}-{first}`")
    if not 1 <= first <= len(lines) + gap or last > len(lines):
        where = f"from 1 to {len(lines) + gap}" if lines or gap else "of a file that has some"
        raise UserError(f"`{file}` has {len(lines)} lines, and {max(first, last)} is asked for", f"name lines {where}")
    root, path = _locate(file)
    selected = lines[first - 1 : last]
    if len(list(windows([("-", line) for line in selected]))) > 1:
        logger.warning(
            "%d lines are more than a training sample showed at once: fewer may be answered better", len(selected)
        )
    before, after = _join(lines[: first - 1]), _join(lines[last:])
    return Region(root, path, _join(selected), before[-BEFORE_CHARS:], after[:AFTER_CHARS])


def _read_lines(file: Path) -> list[str]:
    """Read the lines of a file as git counts them: only line feeds end a line."""
    try:
        text = file.expanduser().read_bytes().decode()
    except OSError as error:
        raise UserError(f"`--file` {file} cannot be read: {error.strerror}", "name a file that exists") from None
    except UnicodeDecodeError:
        raise UserError(f"`--file` {file} is not UTF-8 text", "convert it to UTF-8, or name another file") from None
    return text.removesuffix("\n").split("\n") if text else []


def _join(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _locate(file: Path) -> tuple[Path, str]:
    """Find the top folder of a file's repository and the file's path from there; nothing of the repository is read."""
    file = file.expanduser().absolute()
    root = next((folder for folder in file.parents if (folder / ".git").exists()), file.parent)
    return root, file.relative_to(root).as_posix()

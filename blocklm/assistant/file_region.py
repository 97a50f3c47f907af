"""A place in a file: a gap before a line, or lines to be changed, and what stands around it."""

import logging
from dataclasses import dataclass
from pathlib import Path

from blocklm.corpus.views import PREFIX_CHARS, SUFFIX_CHARS
from blocklm.corpus.windows import windows
from blocklm.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Region:
    """Some lines of a file: the top folder of its repository, its path there, and what stands before and after them."""

    root: Path
    path: str
    text: str
    before: str
    after: str


def region_of(file: Path, first: int, last: int | None = None) -> Region:
    """Read some lines of a file and, around them, as much as a lesson shows.

    Args:
        file: where it is.
        first: line from 1.
        last: line, included; None for the gap before `first`.

    Raises:
        UserError: the file cannot be read, or has no such lines.
    """
    lines = _lines(file)
    gap, last = last is None, first - 1 if last is None else last
    if not gap and last < first:
        raise UserError(f"`--lines {first}-{last}` ends before it begins", f"`--lines {last}-{first}`")
    if not 1 <= first <= len(lines) + gap or last > len(lines):
        where = f"from 1 to {len(lines) + gap}" if lines or gap else "of a file that has some"
        raise UserError(f"`{file}` has {len(lines)} lines, and {max(first, last)} is asked for", f"name lines {where}")
    root, path = _in_repository(file)
    meant = lines[first - 1 : last]
    if len(list(windows([("-", line) for line in meant]))) > 1:
        logger.warning("%d lines are more than a lesson showed at once: fewer may be answered better", len(meant))
    before, after = _text(lines[: first - 1]), _text(lines[last:])
    return Region(root, path, _text(meant), before[-PREFIX_CHARS:], after[:SUFFIX_CHARS])


def _lines(file: Path) -> list[str]:
    """As git counts them, which ends lines at line feeds alone."""
    try:
        text = file.expanduser().read_bytes().decode()
    except OSError as error:
        raise UserError(f"`--file` {file} cannot be read: {error.strerror}", "name a file that exists") from None
    except UnicodeDecodeError:
        raise UserError(f"`--file` {file} is not UTF-8 text", "what is not was not learned from either") from None
    return text.removesuffix("\n").split("\n") if text else []


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _in_repository(file: Path) -> tuple[Path, str]:
    """The top folder and the path from there, as git names it; nothing of the repository is read."""
    file = file.expanduser().absolute()
    root = next((folder for folder in file.parents if (folder / ".git").exists()), file.parent)
    return root, file.relative_to(root).as_posix()

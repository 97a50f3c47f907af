"""Reads a list of repositories: a path or URL on each line."""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from blocklm.config.urls import check_repository_url
from blocklm.errors import UserError
from blocklm.git.clone import is_url

logger = logging.getLogger(__name__)

COMMENT = re.compile(r"(^|\s)#.*")  # as in requirements.txt: a `#` within a path or URL is part of it
EXAMPLE = "write the path or URL of one repository on each line; `#` begins a comment"


@dataclass(frozen=True)
class Source:
    """A repository of a list.

    Attributes:
        name: name of its task, which no other in the list has; it may be used as the name of a file or folder.
        location: absolute path, or URL.
    """

    name: str
    location: str


def read_sources(path: Path) -> list[Source]:
    """Read a list of repositories; one that is listed twice is taken once.

    Relative paths start at the current folder, as they do for `--repo`. The name is that of the repository's folder;
    where an earlier line has it, the folder above is put before it, and then a number behind it. So lines can be added
    at the end without changing the names of those before them.

    Raises:
        UserError: the file cannot be read or names no repository, or a URL holds a secret.
    """
    path = Path(os.path.expanduser(path))  # noqa: PTH111  (`Path.expanduser` raises for an unknown user)
    if not path.is_file():
        problem = "is no file" if path.exists() else "does not exist"
        raise UserError(f"`--repos` {path} {problem}", f"give a file: {EXAMPLE}")
    # A path may have any bytes, as elsewhere.
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    locations = dict.fromkeys(_locations(path, text))
    if not locations:
        raise UserError(f"`--repos` {path} names no repository", EXAMPLE)
    return [Source(name, place) for name, place in zip(_names(list(locations)), locations, strict=True)]


def _locations(path: Path, text: str) -> Iterator[str]:
    """Yield the location on each line, written the same way for lines that name the same repository."""
    seen: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        source = COMMENT.sub("", line).strip()
        if not source:
            continue
        if "\0" in source:
            raise UserError(f"line {number} of {path} holds a NUL character", EXAMPLE)
        try:
            check_repository_url(source)
        except UserError as error:
            raise UserError(f"line {number} of {path}: {error}", error.hint) from None
        location = source.rstrip("/").removesuffix(".git").rstrip("/") if is_url(source) else _absolute(source)
        if seen.setdefault(location, number) != number:
            logger.info("line %d of %s names the same repository as line %d", number, path, seen[location])
        yield location


def _absolute(source: str) -> str:
    """The path without links, and without `.git` at its end."""
    real = os.path.realpath(os.path.expanduser(source))  # noqa: PTH111
    folder, name = os.path.split(real)
    return folder if name == ".git" else real


def _names(locations: Sequence[str]) -> list[str]:
    names: dict[str, None] = {}
    for location in locations:
        *_, above, last = ["", *re.split(r"[/:]+", location)]
        name = _file_name(last)
        if name in names:
            name = f"{_file_name(above)}-{name}"
        number = 1
        while (numbered := name if number == 1 else f"{name}-{number}") in names:
            number += 1
        names[numbered] = None
    return list(names)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]", "-", text.removesuffix(".git")).lstrip(".-")[:100] or "repository"

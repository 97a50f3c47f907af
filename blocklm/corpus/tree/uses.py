"""Finds which files use what another file defines: the lines around a use, and the statement that imports it.

Only names that one file alone defines are looked for. A name that other libraries may have too counts as a use only
where the file imports it.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from textwrap import dedent
from typing import Self

from tree_sitter import Node

from blocklm.corpus.syntax import parser
from blocklm.corpus.tree.definitions import NAME, Definition, FileDefinitions

MAX_USES = 6  # of one definition that are kept
MAX_CHARS = 300  # of the lines around a use, and of an import statement
MAX_PLACES = 3  # of a name in a file that are looked at
WORD = re.compile(r"\w+")
CALL = re.compile(r"(::<[^>\n]*>)?!?\s*\(")
DISTINCTIVE = re.compile(r".{10,}|.+_.+|.*[a-z][A-Z]")  # names that hardly another library has
PLAIN_STEMS = frozenset({"__init__", "mod", "lib", "main", "index"})  # files that are imported by their folder
RELATED = {"C": "C++", "JavaScript": "TypeScript", "TSX": "TypeScript"}  # languages that call one another


@dataclass(frozen=True, slots=True)
class Use:
    """A file that uses a definition of another file.

    Attributes:
        path: its path.
        lines: the lines around the use, without their indentation; empty if the file only imports the name.
        statement: the statement that imports the name or its module; empty if there is none.
        rows: rows of the file that `lines` and `statement` were taken from.
    """

    path: str
    lines: str
    statement: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    """A definition that is looked for, with the names of its module."""

    path: str
    language: str
    is_called: bool
    module: str


@dataclass(frozen=True, slots=True)
class _Statement:
    """A statement that imports modules: its text without indentation, the words that it brings in, its rows."""

    text: str
    words: frozenset[str]
    rows: range

    @classmethod
    def of(cls, lines: Sequence[str], rows: tuple[int, int]) -> Self:
        text = dedent("\n".join(lines[slice(*rows)]))
        named = text.partition(" import ")[2] if text.startswith("from ") else text
        return cls(text, frozenset(WORD.findall(named)), range(*rows))

    def tells(self, name: str, module: str, before: str) -> bool:
        """Whether it tells where a name comes from that stands after the text `before` in a line."""
        named = name in self.words or self.text.startswith("#") or before.endswith((f"{module}.", f"{module}::"))
        return named and len(self.text) <= MAX_CHARS


class UseFinder:
    """Finds the uses of definitions in the files of a tree, which are given one after the other.

    Args:
        files: path, language and definitions of each file.
    """

    def __init__(self, files: Iterable[tuple[str, str, FileDefinitions]]) -> None:
        targets: dict[str, _Target | None] = {}
        for path, language, found in files:
            for definition in found.definitions:
                target = _Target(path, _related(language), definition.is_called, _module(path))
                known = targets.setdefault(definition.name, target)
                if known is not None and known.path != path:
                    targets[definition.name] = None  # defined by several files
        self._targets = {name: target for name, target in targets.items() if target is not None}
        self._uses: defaultdict[str, list[Use]] = defaultdict(list)

    def add(self, text: str, path: str, language: str, imports: Sequence[tuple[int, int]]) -> None:
        """Look for uses in a file."""
        lines = text.split("\n")
        statements = [_Statement.of(lines, rows) for rows in imports]
        imported = {row for rows in imports for row in range(*rows)}
        root: Node | None = None
        for name, places in self._candidates(lines, imported).items():
            target = self._targets[name]
            if target.path == path or target.language != _related(language) or len(self._uses[name]) >= MAX_USES:
                continue
            statement = _import_of(name, target.module, statements)
            if statement is None and not DISTINCTIVE.match(name):
                continue
            root = root or parser(language).parse(text.encode("utf-8", "replace")).root_node
            place = next((place for place in places if _is_identifier(root, lines, place)), None)
            if place is not None:
                if statement is not None and not statement.tells(name, target.module, lines[place[0]][: place[1]]):
                    statement = None
                rows, around = _around(lines, place[0])
                shown = (*rows, *(statement.rows if statement else ()))
                self._uses[name].append(Use(path, around, statement.text if statement else "", shown))

    def of(self, definition: Definition, path: str) -> Sequence[Use]:
        """Return the uses of a definition of a file."""
        target = self._targets.get(definition.name)
        return self._uses.get(definition.name, ()) if target is not None and target.path == path else ()

    def _candidates(self, lines: Sequence[str], imported: set[int]) -> Mapping[str, list[tuple[int, int]]]:
        """Find the first places of each name that is looked for, as row and column, outside of import statements."""
        found: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for row, line in enumerate(lines):
            if row in imported:
                continue
            for match in NAME.finditer(line):
                target = self._targets.get(match[0])
                if target is None or len(found.get(match[0], ())) >= MAX_PLACES:
                    continue
                if not target.is_called or CALL.match(line, match.end()):
                    found[match[0]].append((row, match.start()))
        return found


def _is_identifier(root: Node, lines: Sequence[str], place: tuple[int, int]) -> bool:
    """Whether the word at a row and column is an identifier, and not in a comment or string."""
    row, column = place
    point = (row, len(lines[row][:column].encode("utf-8", "replace")))
    node = root.descendant_for_point_range(point, point)
    return node is not None and node.type.endswith("identifier")


def _import_of(name: str, module: str, statements: Sequence[_Statement]) -> _Statement | None:
    """Find the statement that imports a name, or else its module."""
    words = (name, module)
    return next((statement for word in words for statement in statements if word in statement.words), None)


def _around(lines: Sequence[str], row: int) -> tuple[range, str]:
    """Return the rows of a use with the line before and after it, or its own alone where these are too long."""
    for rows in (range(max(0, row - 1), min(len(lines), row + 2)), range(row, row + 1)):
        text = dedent("\n".join(lines[place] for place in rows)).strip("\n")
        if len(text) <= MAX_CHARS:
            return rows, text.rstrip()
    return range(row, row + 1), lines[row].strip()[:MAX_CHARS]


def _module(path: str) -> str:
    """Return the word by which a file is imported: its name without suffix, or its folder's."""
    stem, folder = PurePosixPath(path).stem, PurePosixPath(path).parent.name
    return folder if stem in PLAIN_STEMS or path.endswith(".go") else stem


def _related(language: str) -> str:
    return RELATED.get(language, language)

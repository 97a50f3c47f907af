"""Finds the definitions of a file with their signatures and descriptions, and its import statements, in one pass.

Tests are left out, and what is defined inside of a function, because no other code names them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import dedent, indent

from datasets import Dataset
from tree_sitter import Node

from blocklm.corpus.syntax import GRAMMARS, parser
from blocklm.corpus.tree.constructs import (
    FUNCTIONS,
    defined_name,
    defines_test,
    end_row,
    is_docstring,
    is_import,
    text_of,
)

NAME = re.compile(r"[^\W\d]\w{2,}")
LETTER = re.compile(r"[^\W\d_]")
OWNERS = frozenset(
    {
        "class_definition", "class_declaration", "class_specifier", "struct_specifier", "interface_declaration",
        "enum_declaration", "record_declaration", "impl_item", "trait_item",
    }
)  # fmt: skip
INDENTATION = "    "
MACROS = frozenset({"macro_definition", "preproc_function_def"})
MAX_SIGNATURE_CHARS = 300
MAX_DESCRIPTION_CHARS = 400
MAX_COMMENT_ROWS = 60
TESTING_PATH = re.compile(
    r"(^|/)(tests?|spec|__tests__|testing|testdata)/|(^|/)test_|_test\.|\.(test|spec)\.|Tests?\.java$"
)
ATTRIBUTE = re.compile(r"\s*(#!?\[|@)")
HASH_COMMENT, LINE_COMMENT = re.compile(r"\s*#(?![!\[])"), re.compile(r"\s*//")
DIRECTIVE = re.compile(
    r"\W*(eslint|prettier|noqa|pylint|pragma|type: ?ignore|@ts-|nolint|go:|clang-format|SPDX|Copyright)"
)
COMMENT_MARK = re.compile(r"^\s*(?://[/!]?|/\*[*!]?|\*(?!/)|#+)? ?")


@dataclass(frozen=True, slots=True)
class Definition:
    """A function, type, constant or macro that a file defines.

    Attributes:
        name: its name.
        signature: the lines from its beginning up to its body; of a method below the first line of its type.
        description: the first paragraph of its docstring, or of the comment above it; empty without one.
        rows: rows of the file that signature and description were taken from.
        is_called: whether a use of it is a call.
        is_test: whether it stands among tests.
    """

    name: str
    signature: str
    description: str
    rows: tuple[int, ...]
    is_called: bool
    is_test: bool


@dataclass(frozen=True, slots=True)
class FileDefinitions:
    """What a file defines and imports.

    Attributes:
        definitions: its definitions, in their order.
        imports: first row and row after the last of each statement that imports modules.
    """

    definitions: Sequence[Definition]
    imports: Sequence[tuple[int, int]]


def defined_names(files: Dataset) -> frozenset[str]:
    """Collect the names that files define, each a change that adds the file, without those that were dropped."""
    names = set[str]()
    for batch in files.select_columns(["drop_reason", "diff", "path", "language"]).iter(100):
        for reason, diff, path, language in zip(*batch.values(), strict=True):
            if reason is None and language in GRAMMARS:
                found = definitions_of(content_of(diff.split("\n")), path, language)
                names |= {definition.name for definition in found.definitions}
    return frozenset(names)


def content_of(diff: Sequence[str]) -> str:
    """Return the text of a file from the lines of a diff that adds it."""
    return "\n".join(line[1:] for line in diff if line[:1] == "+")


def definitions_of(text: str, path: str, language: str | None) -> FileDefinitions:
    """Find the definitions and imports of a file; there are none in a language without a grammar."""
    if language not in GRAMMARS:
        return FileDefinitions((), ())
    source = _Source(text.encode("utf-8", "replace"), text.split("\n"), language)
    found, imports = list[Definition](), list[tuple[int, int]]()
    root = parser(language).parse(source.data).root_node
    left: list[tuple[Node, Node | None, bool]] = [(root, None, TESTING_PATH.search(path) is not None)]
    while left:
        node, owner, among_tests = left.pop()
        name = text_of(defined_name(node))
        function = bool(name) and node.type in FUNCTIONS
        if is_import(node):
            imports.append((node.start_point.row, end_row(node)))
        elif node.type == "mod_item":
            among_tests |= text_of(node.child_by_field_name("name")).startswith("test")
        if (
            NAME.fullmatch(name)
            and not name.startswith("__")
            and not (function and defines_test(node, name, language))
        ):
            found.append(source.definition(node, name, owner, among_tests))
        if not function:
            inside = node if node.type in OWNERS else owner
            left.extend((child, inside, among_tests) for child in reversed(node.children))
    return FileDefinitions(found, imports)


@dataclass(frozen=True, slots=True)
class _Source:
    """The bytes, lines and language of a file."""

    data: bytes
    lines: Sequence[str]
    language: str

    def definition(self, node: Node, name: str, owner: Node | None, among_tests: bool) -> Definition:
        """Describe the definition that a node is."""
        body, first = node.child_by_field_name("body"), node.start_point.row
        signature = self._head(node)
        rows = [*range(first, first + signature.count("\n") + 1)]
        if owner is not None:
            signature = f"{self.lines[owner.start_point.row].strip()}\n{indent(signature, INDENTATION)}"
            rows.append(owner.start_point.row)
        description, described = _docstring(body)
        if not description:
            description, described = _comment_above(self.lines, first, self.language)
        called = node.type in FUNCTIONS | MACROS
        return Definition(name, signature, description, (*range(*described), *rows), called, among_tests)

    def _head(self, node: Node) -> str:
        """Return the lines of a node up to its body, of a node without a body the first line."""
        body = node.child_by_field_name("body")
        start = self.data.rfind(b"\n", 0, node.start_byte) + 1
        end = self.data.find(b"\n", node.start_byte) if body is None else body.start_byte
        head = dedent(self.data[start : end if end > 0 else None].decode("utf-8", "replace")).strip()
        lines = head.split("\n")
        while len(lines) > 1 and _line_comment(self.language).match(lines[-1]):
            lines.pop()  # of the body
        return _fitting(lines, MAX_SIGNATURE_CHARS) or head[:MAX_SIGNATURE_CHARS]


def _docstring(body: Node | None) -> tuple[str, tuple[int, int]]:
    """Return the first paragraph of the docstring in a body, and its rows; both are empty without one."""
    statement = body.named_children[0] if body is not None and body.named_children else None
    if statement is None or not is_docstring(statement):
        return "", (0, 0)
    string = statement.named_children[0]
    content = "".join(text_of(part) for part in string.named_children if part.type == "string_content")
    first, _, rest = content.partition("\n")
    return _paragraph([first, *dedent(rest).split("\n")]), (statement.start_point.row, end_row(statement))


def _comment_above(lines: Sequence[str], row: int, language: str) -> tuple[str, tuple[int, int]]:
    """Return the first paragraph of the comment above a row, and its rows; both are empty without one."""
    end = row
    while end and ATTRIBUTE.match(lines[end - 1]):
        end -= 1
    start, lowest = end, max(0, end - MAX_COMMENT_ROWS)
    line_comment = _line_comment(language)
    if language != "Python" and end and lines[end - 1].rstrip().endswith("*/"):
        start -= 1
        while start > lowest and not lines[start].lstrip().startswith("/*"):
            start -= 1
        if not lines[start].lstrip().startswith("/*"):
            return "", (0, 0)
    while start > lowest and line_comment.match(lines[start - 1]):
        start -= 1
    comment = [COMMENT_MARK.sub("", line.rstrip().removesuffix("*/")).rstrip() for line in lines[start:end]]
    comment = [line for line in comment if not DIRECTIVE.match(line)]
    description = _paragraph(comment)
    return description, (start, end) if description else (0, 0)


def _line_comment(language: str) -> re.Pattern[str]:
    return HASH_COMMENT if language == "Python" else LINE_COMMENT


def _paragraph(lines: Sequence[str]) -> str:
    """Return the first paragraph that has letters, as many lines of it as fit."""
    for paragraph in "\n".join(line.rstrip() for line in lines).split("\n\n"):
        if LETTER.search(paragraph):
            return _fitting(dedent(paragraph).strip().split("\n"), MAX_DESCRIPTION_CHARS)
    return ""


def _fitting(lines: Sequence[str], chars: int) -> str:
    """Return the first lines that fit into a number of characters together."""
    shown = list[str]()
    for line in lines:
        chars -= len(line) + 1
        if chars < 0:
            break
        shown.append(line)
    return "\n".join(shown)

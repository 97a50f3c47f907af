"""Finds what a piece of code defines and imports, with tree-sitter: functions, tests, symbols, import lines.

A piece may begin and end anywhere: the grammars find the complete constructs in it. Rows are lines of the text, counted
from 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tree_sitter import Node

from blocklm.corpus.syntax import GRAMMARS, parser

FUNCTIONS = frozenset(
    {
        "function_item", "function_definition", "function_declaration", "generator_function_declaration",
        "method_declaration", "method_definition", "constructor_declaration", "arrow_function", "function_expression",
    }
)  # fmt: skip
TYPES = frozenset(
    {
        "struct_item", "enum_item", "union_item", "trait_item", "type_item", "const_item", "static_item",
        "macro_definition", "function_signature_item", "class_definition", "class_declaration", "interface_declaration",
        "enum_declaration", "type_alias_declaration", "record_declaration", "type_spec", "struct_specifier",
        "class_specifier", "enum_specifier", "union_specifier", "preproc_def", "preproc_function_def",
    }
)  # fmt: skip
SPECIFIERS = frozenset({"struct_specifier", "class_specifier", "enum_specifier", "union_specifier"})
IMPORTS = frozenset(
    {
        "use_declaration", "extern_crate_declaration", "import_statement", "import_from_statement",
        "future_import_statement", "import_declaration", "preproc_include",
    }
)  # fmt: skip
# Names of tests in languages without an attribute for them: test_it, testIt, TestIt, TEST_F.
TEST_NAME = re.compile(r"test(?![a-z])|Test(?![a-z])|TEST(?![a-z])")
# `#[test]`, `#[tokio::test(…)]`, `#[rstest]`, but not `#[cfg(test)]`; `@Test`, `@ParameterizedTest`.
TEST_ATTRIBUTE = re.compile(r"#\[\s*(?:\w+\s*::\s*)*\w*test|@[\w.]*Test\b")
TEST_CALLS = frozenset({"it", "test"})
MARKED = frozenset({"Rust", "Java"})  # languages whose tests have an attribute


@dataclass(frozen=True, slots=True)
class Function:
    """A function in the rows from `start` up to `end` of a text, with its body from `body` up to `body_end`.

    The body excludes its braces and its docstring.
    """

    start: int
    body: int
    body_end: int
    end: int
    is_test: bool


def functions(text: str, language: str | None) -> list[Function]:
    """Find the complete functions, with tests, whose bodies have lines of their own, in the order of the text.

    A test that is a call with a block (`it("adds", () => {…})`) is a function too.
    """
    found = []
    for node in _nodes(text, language):
        call = node.type == "call_expression"
        function = _test_call(node) if call else node if node.type in FUNCTIONS else None
        if function is not None and not node.has_error:
            name = text_of(_name(node)) if function is node else ""
            body = function.child_by_field_name("body")
            if body is not None and (call or name):
                first, last = _body_rows(body)
                if node.start_point.row < first < last:
                    is_test = call or defines_test(node, name, language)
                    found.append(Function(node.start_point.row, first, last, end_row(node), is_test))
    return found


def symbols(text: str, language: str | None) -> frozenset[str]:
    """Find the names of the functions, types, constants and macros that a text defines."""
    return frozenset(text_of(name) for node in _nodes(text, language) if (name := defined_name(node)) is not None)


def uses(text: str, language: str | None, names: frozenset[str]) -> list[tuple[int, str]]:
    """Find where a text uses one of the names without defining it: row, and the text before it in its line."""
    nodes = list(_nodes(text, language))
    defined = {name.id for node in nodes if (name := defined_name(node)) is not None}
    lines = text.encode("utf-8", "replace").split(b"\n")
    return [
        (row, lines[row][:column].decode("utf-8", "replace"))
        for node in nodes
        if node.type.endswith("identifier") and not node.children and node.id not in defined and text_of(node) in names
        for row, column in [node.start_point]
    ]


def import_rows(text: str, language: str | None) -> frozenset[int]:
    """Find the rows of statements that import modules: `use`, `mod x;`, `import`, `#include`, `require`."""
    return frozenset(
        row for node in _nodes(text, language) if is_import(node) for row in range(node.start_point.row, end_row(node))
    )


def _nodes(text: str, language: str | None) -> Iterator[Node]:
    """Yield every node, parents before children; none for a language without a grammar."""
    if language not in GRAMMARS:
        return
    left = [parser(language).parse(text.encode("utf-8", "replace")).root_node]
    while left:
        node = left.pop()
        yield node
        left.extend(reversed(node.children))


def end_row(node: Node) -> int:
    """Return the row after a node; the end of some nodes includes the line break."""
    return node.end_point.row + (node.end_point.column > 0)


def _body_rows(body: Node) -> tuple[int, int]:
    """Return the rows between the braces of a block; of a block without braces, the rows after its docstring."""
    if body.children and body.children[0].type == "{":
        return body.start_point.row + 1, body.end_point.row
    statements = body.named_children
    if len(statements) > 1 and is_docstring(statements[0]):
        return statements[1].start_point.row, end_row(body)
    return body.start_point.row, end_row(body)


def is_docstring(node: Node) -> bool:
    """Whether a statement is a string and nothing else."""
    return node.type == "expression_statement" and [child.type for child in node.named_children] == ["string"]


def defined_name(node: Node) -> Node | None:
    """Return the name that a node defines; None if it defines none."""
    if node.type in SPECIFIERS and node.child_by_field_name("body") is None:
        return None  # C: `struct point p` is a use
    return node.child_by_field_name("name") if node.type in TYPES else _name(node) if node.type in FUNCTIONS else None


def _name(node: Node) -> Node | None:
    """Return the node of a function's name; None if it has none."""
    if node.type in ("arrow_function", "function_expression"):
        parent = node.parent
        return parent.child_by_field_name("name") if parent and parent.type == "variable_declarator" else None
    named = node.child_by_field_name("name") or node.child_by_field_name("declarator")
    while named is not None and (inner := named.child_by_field_name("declarator")) is not None:
        named = inner  # C: pointers and parameters stand around the name
    if named is not None and (last := named.child_by_field_name("name")) is not None:
        named = last  # C++: `A::f`
    return named


def text_of(node: Node | None) -> str:
    """Return the text of a node; empty without one."""
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def defines_test(node: Node, name: str, language: str | None) -> bool:
    """Whether a function is a test, by its name or, in some languages, by its attributes."""
    if language not in MARKED:
        return bool(TEST_NAME.match(name))
    before, marks = node.prev_named_sibling, [child for child in node.children if child.type == "modifiers"]
    while before is not None and (before.type == "attribute_item" or "comment" in before.type):
        marks += [before] * (before.type == "attribute_item")
        before = before.prev_named_sibling
    return any(TEST_ATTRIBUTE.search(text_of(mark)) for mark in marks)


def _test_call(node: Node) -> Node | None:
    """Return the function in a call like `it("adds", () => {…})` or `test.only("adds", function () {…})`."""
    called = node.child_by_field_name("function")
    if called is None or text_of(called).partition(".")[0] not in TEST_CALLS:
        return None
    arguments = node.child_by_field_name("arguments")
    children = arguments.named_children if arguments is not None else []
    return next((child for child in children if child.type in ("arrow_function", "function_expression")), None)


def is_import(node: Node) -> bool:
    """Whether a node is a statement that imports modules."""
    if node.type in IMPORTS:
        return True
    if node.type == "mod_item":
        return node.child_by_field_name("body") is None
    if node.type == "export_statement":
        return node.child_by_field_name("source") is not None
    if node.type in ("lexical_declaration", "variable_declaration"):
        values = [child.child_by_field_name("value") for child in node.named_children]
        return any(text_of(value).startswith("require(") for value in values)
    return False

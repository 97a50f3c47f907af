"""Parses code with tree-sitter's grammars, each from its own wheel, so that nothing is downloaded at run time."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from tree_sitter import Language, Node, Parser

# By Linguist's names, as in the corpus. `tree-sitter-language-pack` is not used: it downloads its grammars at run time.
GRAMMARS = {
    "C": ("tree_sitter_c", "language"),
    "C++": ("tree_sitter_cpp", "language"),
    "Go": ("tree_sitter_go", "language"),
    "Java": ("tree_sitter_java", "language"),
    "JavaScript": ("tree_sitter_javascript", "language"),
    "Python": ("tree_sitter_python", "language"),
    "Rust": ("tree_sitter_rust", "language"),
    "TSX": ("tree_sitter_typescript", "language_tsx"),
    "TypeScript": ("tree_sitter_typescript", "language_typescript"),
}
CLOSES = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Syntax:
    """The syntax of a text, complete or a fragment.

    Attributes:
        flaws: number of error nodes, and of nodes that the grammar had to add.
        brackets: brackets without a partner, in their order, without those in strings and comments.
        identifiers: all names in the text, without keywords, strings and comments.
    """

    flaws: int
    brackets: str
    identifiers: frozenset[str]


def syntax(text: str, language: str | None) -> Syntax | None:
    """Parse a text by the grammar of its language; None if there is no grammar."""
    if language not in GRAMMARS:
        return None
    flaws, brackets, identifiers = 0, list[str](), set[str]()
    left: list[Node] = [parser(language).parse(text.encode("utf-8", "replace")).root_node]
    while left:
        node = left.pop()
        flaws += node.is_error or node.is_missing
        if node.children:
            left.extend(reversed(node.children))
        elif node.type.endswith("identifier") and node.text:
            identifiers.add(node.text.decode("utf-8", "replace"))
        elif not node.is_named and not node.is_missing:
            _pair(node.type, brackets)
    return Syntax(flaws, "".join(brackets), frozenset(identifiers))


def nodes(text: str, language: str | None, least: int, most: int) -> list[tuple[int, int]]:
    """Find start and end, in characters, of each construct of a text that is complete and has parts.

    None is found in a language without a grammar. The text itself is no construct of its own.

    Args:
        text: the text.
        language: its language.
        least: fewest characters of a construct.
        most: most characters of a construct.
    """
    if language not in GRAMMARS:
        return []
    data = text.encode("utf-8", "replace")
    found, left = list[tuple[int, int]](), list(parser(language).parse(data).root_node.children)
    while left:
        node = left.pop()
        if node.end_byte - node.start_byte < least:
            continue  # it has no more characters than bytes, and its parts have fewer
        left.extend(reversed(node.children))
        if node.is_named and node.named_child_count and not node.has_error:
            start, end = node.start_byte, node.end_byte
            if len(data) != len(text):
                start, end = len(data[:start].decode()), len(data[:end].decode())
            if least <= end - start <= most:
                found.append((start, end))
    return found


def _pair(token: str, brackets: list[str]) -> None:
    """Push a token's opening brackets, as of JavaScript's `${`, onto the stack; closing ones pop their partner."""
    for mark in token:
        if mark in CLOSES and brackets and brackets[-1] == CLOSES[mark]:
            brackets.pop()
        elif mark in "()[]{}":
            brackets.append(mark)


@cache
def parser(language: str) -> Parser:
    """Make the parser of a language in `GRAMMARS`."""
    module, function = GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), function)()))

"""Tree-sitter's grammars, each from its own wheel: nothing is fetched when they are used."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module

from tree_sitter import Language, Node, Parser

# By Linguist's names, as the corpus has them; `tree-sitter-language-pack` fetches its grammars at run time.
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
    """What a grammar sees in a text, whole or a fragment.

    Args:
        flaws: nodes that are errors, or that the grammar had to add.
        brackets: those without a partner, in their order; brackets in strings and comments are none.
        identifiers: every name in it, without keywords, strings and comments.
    """

    flaws: int
    brackets: str
    identifiers: frozenset[str]


def syntax(text: str, language: str | None) -> Syntax | None:
    """Read a text by the grammar of its language, None without one."""
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


def _pair(token: str, brackets: list[str]) -> None:
    """Put the brackets of a token, such as JavaScript's `${`, on top of those that wait, or take their partners off."""
    for mark in token:
        if mark in CLOSES and brackets and brackets[-1] == CLOSES[mark]:
            brackets.pop()
        elif mark in "()[]{}":
            brackets.append(mark)


@cache
def parser(language: str) -> Parser:
    """The parser of a language in `GRAMMARS`."""
    module, function = GRAMMARS[language]
    return Parser(Language(getattr(import_module(module), function)()))

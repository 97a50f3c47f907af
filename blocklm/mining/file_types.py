"""Determines a file's kind from its path, as GitHub's linguist does, corrected by the repository's own attributes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath

import enry

# Extensions that several languages share: by name alone, enry answers with the alphabetically first language.
COMMON_MEANING = {
    ".cl": "OpenCL", ".f": "Fortran", ".for": "Fortran", ".gd": "GDScript", ".html": "HTML", ".m": "Objective-C",
    ".md": "Markdown", ".php": "PHP", ".rs": "Rust", ".sol": "Solidity", ".sql": "SQL", ".txt": "Text",
    ".v": "Verilog", ".yaml": "YAML", ".yml": "YAML",
}  # fmt: skip
# A history changes the same paths again and again.
PATHS_REMEMBERED = 1 << 16
# Attributes by name; a value is a text, or whether the attribute is set.
Attributes = Mapping[str, str | bool]


@dataclass(frozen=True, slots=True)
class FileKind:
    """The kind of a file; `type` is linguist's: programming, markup, data or prose, or empty if unknown."""

    language: str | None
    type: str
    vendored: bool
    generated: bool


@lru_cache(PATHS_REMEMBERED)
def kind_of(path: str) -> FileKind:
    """The kind of a file, by its path alone."""
    common = COMMON_MEANING.get(PurePosixPath(path).suffix)
    language = enry.get_language_by_filename(path)[0] or common or enry.get_language_by_extension(path)[0] or None
    return FileKind(language, _type(language), bool(enry.is_vendor(path)), bool(enry.is_generated(path, b"")))


def apply_attributes(kind: FileKind, attributes: Attributes) -> FileKind:
    """The kind with the `linguist-*` attributes of `.gitattributes` applied (the overrides of linguist)."""
    for name, value in attributes.items():
        if name == "linguist-language" and isinstance(value, str):
            # enry resolves aliases only where an editor's mode line names them
            language = enry.get_language_by_emacs_modeline(f"-*- {value} -*-".encode())[0] or value
            kind = replace(kind, language=language, type=_type(language))
        elif name == "linguist-vendored":
            kind = replace(kind, vendored=_is_set(value))
        elif name == "linguist-generated":
            kind = replace(kind, generated=_is_set(value))
        elif name == "linguist-documentation":
            if _is_set(value):
                kind = replace(kind, type="prose")
            elif kind.type == "prose":
                kind = replace(kind, type="markup")
    return kind


def _is_set(value: str | bool) -> bool:
    return value not in (False, "false")


def _type(language: str | None) -> str:
    known = str(enry.get_language_type(language)) if language else "unknown"
    return "" if known == "unknown" else known

"""Write the tables of recipe keys in docs/configuration.md anew, from the dataclasses in blocklm/config.

python scripts/document_keys.py

A test fails as long as the tables differ from the dataclasses.
"""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocklm.config.recipe import LIBRARY_DEFAULTS, OWN
from blocklm.console import CommandLine, console

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
BEGIN, END = "<!-- keys: begin -->", "<!-- keys: end -->"


def command_line() -> CommandLine:
    """Build the command line, which has only `--help`."""
    return CommandLine(__doc__)


def main() -> None:
    """Replace the tables and leave the rest of the page as it is."""
    command_line().parse_args()
    PAGE.write_text(with_key_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def with_key_tables(page: str) -> str:
    """Return a page with the current tables between its two markers; it must have both."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, f"the page needs the lines {BEGIN} and {END}"
    presets = [(f"`{key}`", _shown(value)) for key, value in LIBRARY_DEFAULTS.items()]
    sections = [
        *map(_group, OWN.values()),
        "### Keys of the libraries that have another default here",
        _table(("key", "default here"), presets),
    ]
    return "\n\n".join([before + BEGIN, *sections, END + after])


def _group(kind: type[Any]) -> str:
    """The keys of a dataclass below the heading and the sentence that describe it."""
    rows = [
        (f"`{field.name}`", _shown(_default(field)), str(field.metadata["help"]).replace("|", r"\|"))
        for field in dataclasses.fields(kind)
    ]
    heading = str(kind._argument_group_name)
    title = f"### {heading[0].upper()}{heading[1:]}"
    return "\n\n".join([title, str(inspect.getdoc(kind)), _table(("key", "default", "meaning"), rows)])


def _default(field: "dataclasses.Field[Any]") -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def _shown(value: Any) -> str:
    """A default as a recipe would give it; "not set" where leaving the key out has a meaning of its own."""
    if value is None:
        return "not set"
    if isinstance(value, dict):
        return f"`{{{', '.join(f'{key}: {_text(item)}' for key, item in value.items())}}}`"
    return f"`[{', '.join(map(_text, value))}]`" if isinstance(value, list) else f"`{_text(value)}`"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    with console():
        main()

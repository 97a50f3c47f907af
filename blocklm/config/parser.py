"""Reads a recipe as strictly as the command line: same flags, same types, same choices.

TrlParser itself does not open a positional YAML, lets YAML values skip type and choice checks, and takes the last of two
equal keys.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from trl import TrlParser

from blocklm.config.recipe_file import RecipeText, read_recipe_file
from blocklm.errors import UserError


class RecipeParser(TrlParser):
    """Builds one instance of each argument class from `RECIPE.yaml [--key value ...]`; the command line wins."""

    def __init__(self, dataclass_types: Sequence[type], description: str | None) -> None:
        fields = [item for kind in dataclass_types for item in dataclasses.fields(kind)]
        self._required = {item.name for item in fields if item.default not in (None, False)}
        # Not the types of the fields, which HfArgumentParser narrows for good to those that argparse converts with.
        types = [item for kind in dataclass_types for item in kind.__annotations__.items()]
        self._texts = {name for name, given in types if given in (str, str | None)}
        self._text_lists = {name for name, given in types if given in (list[str], list[str] | None)}
        self._mappings = {name for name, given in types if given == dict | str | None}
        super().__init__(
            dataclass_types,
            usage="%(prog)s RECIPE.yaml [--key value ...]",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_recipe(self, argv: Sequence[str]) -> tuple[Any, ...]:
        """Return one instance per dataclass and, last, the set of keys the user gave."""
        arguments = list(argv)
        if {"-h", "--help"} & set(arguments):
            self.print_help()
            raise SystemExit(0)
        if not arguments or arguments[0].startswith("-"):
            raise UserError("no recipe given", "name one first, such as `recipes/quickstart.yaml`")
        written = read_recipe_file(Path(arguments.pop(0)))
        self._check_known(written)
        recipe = {action.dest: self._value(action, written[action.dest]) for action in self._of(written)}
        self.set_defaults_with_config(**recipe)
        flags = {flag: action.dest for action in self._actions for flag in action.option_strings}
        given = set(recipe) | {flags[word.split("=")[0]] for word in arguments if word.split("=")[0] in flags}
        *parts, unread = self.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
        if unread:
            self._unknown(unread[0].split("=")[0].lstrip("-").replace("-", "_"))
        return (*parts, given)

    def error(self, message: str) -> NoReturn:
        """Report a bad command line as our errors are reported."""
        raise UserError(message, "`--help` lists every key with its type")

    def _unknown(self, key: str) -> NoReturn:
        near = difflib.get_close_matches(key, self._keys(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`--help` lists every key"
        raise UserError(f"unknown recipe key `{key}`", hint)

    def _keys(self) -> set[str]:
        return {action.dest for action in self._actions}

    def _of(self, written: dict[str, RecipeText]) -> list[argparse.Action]:
        return [action for action in self._actions if action.dest in written]

    def _check_known(self, written: dict[str, RecipeText]) -> None:
        for key in written:
            if key not in self._keys():
                self._unknown(key)

    def _value(self, action: argparse.Action, written: RecipeText) -> Any:
        """What the parser takes for a key: the file's text, checked by the flag's own type and choices."""
        value, takes_list, name = written.value, action.nargs in ("+", "*"), action.dest
        if value is None:
            if name in self._required:
                raise UserError(f"`{name}` may not be null", f"give `{name}` a value or leave it out")
            return None
        if isinstance(value, dict) and name in self._mappings:
            return value
        if isinstance(value, list | dict) and not takes_list:
            raise UserError(f"`{name}` takes one value, got {value!r}", f"give `{name}` a single value")
        if not isinstance(value, list):
            return [self._text(action, written)] if takes_list else self._text(action, written)
        return [self._text(action, item) for item in written.items]

    def _text(self, action: argparse.Action, written: RecipeText) -> Any:
        """One value as on the command line; YAML's own reading counts for numbers and switches that are no text there."""
        name, texts = action.dest, action.dest in self._texts | self._text_lists
        if written.text is None:
            raise UserError(f"`{name}` holds {written.value!r}, which is no single value", f"correct `{name}`")
        if "\0" in written.text:
            raise UserError(f"`{name}` holds a NUL character", f"correct `{name}`")
        choices = set(map(str, action.choices or ()))
        readings = [written.text] if texts else list(dict.fromkeys([written.text, written.python_text]))
        if choices & set(readings):
            readings = [reading for reading in readings if reading in choices]
        problem = ""
        for reading in readings:
            try:
                value = self._get_value(action, reading)
                self._check_value(action, value)
            except argparse.ArgumentError as error:
                problem = problem or error.message
            else:
                return reading if texts or action.choices else value
        listed = f" (one of {', '.join(map(str, action.choices))})" if action.choices else ""
        shown = repr(written.value) if isinstance(written.value, str) else written.text
        raise UserError(f"`{name}` cannot be {shown}{listed}: {problem}", f"correct `{name}` in the recipe")

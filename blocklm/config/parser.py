"""Reads a recipe as strictly as the command line: the same flags, types and choices.

TrlParser itself opens no positional YAML file, checks neither type nor choice of YAML values, and takes the last of two
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
        # HfArgumentParser overwrites the types of the fields by those that argparse converts to: read the annotations.
        types = [item for kind in dataclass_types for item in kind.__annotations__.items()]
        self._texts = {name for name, annotation in types if annotation in (str, str | None)}
        self._text_lists = {name for name, annotation in types if annotation in (list[str], list[str] | None)}
        self._mappings = {name for name, annotation in types if annotation == dict | str | None}
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
        texts = read_recipe_file(Path(arguments.pop(0)))
        self._check_known(texts)
        recipe = {action.dest: self._value(action, texts[action.dest]) for action in self._actions_of(texts)}
        self.set_defaults_with_config(**recipe)
        flags = {flag: action.dest for action in self._actions for flag in action.option_strings}
        given = set(recipe) | {flags[word.split("=")[0]] for word in arguments if word.split("=")[0] in flags}
        *parts, unread = self.parse_args_into_dataclasses(
            arguments, return_remaining_strings=True, look_for_args_file=False
        )
        if unread:
            self._refuse_unknown(unread[0].split("=")[0].lstrip("-").replace("-", "_"))
        return (*parts, given)

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError` for a bad command line, where argparse would exit."""
        raise UserError(message, "`--help` lists every key with its type")

    def _refuse_unknown(self, key: str) -> NoReturn:
        near = difflib.get_close_matches(key, self._keys(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`--help` lists every key"
        raise UserError(f"unknown recipe key `{key}`", hint)

    def _keys(self) -> set[str]:
        return {action.dest for action in self._actions}

    def _actions_of(self, texts: dict[str, RecipeText]) -> list[argparse.Action]:
        return [action for action in self._actions if action.dest in texts]

    def _check_known(self, texts: dict[str, RecipeText]) -> None:
        for key in texts:
            if key not in self._keys():
                self._refuse_unknown(key)

    def _value(self, action: argparse.Action, recipe_text: RecipeText) -> Any:
        """The value of a key: the file's text, checked by the flag's own type and choices."""
        value, takes_list, name = recipe_text.value, action.nargs in ("+", "*"), action.dest
        if value is None:
            if name in self._required:
                raise UserError(f"`{name}` may not be null", f"give `{name}` a value or leave it out")
            return None
        if isinstance(value, dict) and name in self._mappings:
            return value
        if isinstance(value, list | dict) and not takes_list:
            raise UserError(f"`{name}` takes one value, got {value!r}", f"give `{name}` a single value")
        if not isinstance(value, list):
            return [self._single(action, recipe_text)] if takes_list else self._single(action, recipe_text)
        return [self._single(action, item) for item in recipe_text.items]

    def _single(self, action: argparse.Action, recipe_text: RecipeText) -> Any:
        """One value, read as on the command line, or as YAML reads it where the key is no text: `yes` is a switch."""
        name, is_text = action.dest, action.dest in self._texts | self._text_lists
        if recipe_text.text is None:
            raise UserError(f"`{name}` holds {recipe_text.value!r}, which is no single value", f"correct `{name}`")
        if "\0" in recipe_text.text:
            raise UserError(f"`{name}` holds a NUL character", f"correct `{name}`")
        choices = set(map(str, action.choices or ()))
        text, python_text = recipe_text.text, recipe_text.python_text
        readings = [text] if is_text else list(dict.fromkeys([text, python_text]))
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
                return reading if is_text or action.choices else value
        listed = f" (one of {', '.join(map(str, action.choices))})" if action.choices else ""
        shown = repr(recipe_text.value) if isinstance(recipe_text.value, str) else text
        raise UserError(f"`{name}` cannot be {shown}{listed}: {problem}", f"correct `{name}` in the recipe")

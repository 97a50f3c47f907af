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

import yaml
from trl import TrlParser

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
        recipe = load_yaml(Path(arguments.pop(0)))
        self._check_known(recipe)
        self._check_values(recipe)
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

    def _check_known(self, recipe: dict[str, Any]) -> None:
        for key in recipe:
            if key not in self._keys():
                self._unknown(str(key))

    def _check_values(self, recipe: dict[str, Any]) -> None:
        """Run each value of the file through its flag's own type and choices."""
        for action in self._actions:
            value = recipe.get(action.dest)
            takes_list = action.nargs in ("+", "*")
            if value is None and action.dest in recipe and action.dest in self._required:
                raise UserError(f"`{action.dest}` may not be null", f"give `{action.dest}` a value or leave it out")
            if value is None or (isinstance(value, dict) and action.dest in self._mappings):
                continue
            if takes_list and not isinstance(value, list):
                recipe[action.dest] = value = [value]
            if isinstance(value, list | dict) and not takes_list:
                raise UserError(
                    f"`{action.dest}` takes one value, got {value!r}", f"give `{action.dest}` a single value"
                )
            for item in value if takes_list else [value]:
                try:
                    self._check_value(action, self._get_value(action, str(item)))
                except argparse.ArgumentError as error:
                    choices = f" (one of {', '.join(map(str, action.choices))})" if action.choices else ""
                    raise UserError(
                        f"`{action.dest}` cannot be {item!r}{choices}: {error.message}",
                        f"correct `{action.dest}` in the recipe",
                    ) from None
            if action.dest in self._texts:  # YAML reads `branch: 123` as a number and `since: 2024-01-31` as a date
                recipe[action.dest] = str(value)
            if action.dest in self._text_lists:
                recipe[action.dest] = [str(item) for item in value]


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping without repeated keys; raises `UserError` for anything else."""
    if not path.is_file():
        raise UserError(f"recipe `{path}` does not exist", "recipes are YAML files such as `recipes/quickstart.yaml`")
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        recipe = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"`{path}` is not readable YAML: {' '.join(str(error).split())}", "correct the file") from None
    if not isinstance(recipe, dict) or not isinstance(node, yaml.MappingNode):
        raise UserError(f"`{path}` holds no `key: value` lines", "compare it with `recipes/quickstart.yaml`")
    keys = [str(key.value) for key, _ in node.value]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"`{path}` sets `{repeated[0]}` more than once", "keep one of the two lines")
    return recipe

"""The YAML file of a recipe, with the original text of each value.

YAML 1.1 reads `1.10` as the number 1.1, `0755` as 493, `12:30` as 750 and `no` as False. A branch may have such a
name, so a key that takes text gets the file's own text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blocklm.errors import UserError

# What PyYAML raises for a scalar that only looks like a date or number, and for a file that nests without end.
UNREADABLE = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A value of a recipe and its text.

    Attributes:
        value: the value as YAML reads it.
        text: its text in the file; None for a list, a mapping or null.
        items: the items of a list; empty for other values.
    """

    value: Any
    text: str | None
    items: "tuple[RecipeText, ...]" = ()

    @property
    def python_text(self) -> str:
        """The value as Python writes it, for booleans and floats: `yes` is `True`, `.inf` is `inf`."""
        return str(self.value) if isinstance(self.value, bool | float) else self.text or ""


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping without repeated keys; raises `UserError` for anything else."""
    return {key: item.value for key, item in read_recipe_file(path).items()}


def read_recipe_file(path: Path) -> dict[str, RecipeText]:
    """Read a YAML mapping without repeated keys, with the text of each value.

    Raises:
        UserError: the file does not exist, or it holds anything else.
    """
    if not path.is_file():
        raise UserError(f"recipe `{path}` does not exist", "recipes are YAML files such as `recipes/quickstart.yaml`")
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        mapping = node if isinstance(node, yaml.MappingNode) else yaml.MappingNode("", [])
        keys = [str(key.value) for key, _ in mapping.value]
        values = dict(_values(loader, mapping))
    except UNREADABLE as error:
        raise UserError(f"`{path}` is not readable YAML: {' '.join(str(error).split())}", "correct the file") from None
    if not values:
        raise UserError(f"`{path}` holds no `key: value` lines", "compare it with `recipes/quickstart.yaml`")
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"`{path}` sets `{repeated[0]}` more than once", "keep one of the two lines")
    return values


def _values(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Iterator[tuple[str, RecipeText]]:
    loader.flatten_mapping(node)  # merge keys: `<<: *defaults`
    for key, value in node.value:
        yield str(key.value), _recipe_text(loader, value)


def _recipe_text(loader: yaml.SafeLoader, node: yaml.Node) -> RecipeText:
    if isinstance(node, yaml.SequenceNode):
        items = tuple(_recipe_text(loader, item) for item in node.value)
        return RecipeText([item.value for item in items], None, items)
    if isinstance(node, yaml.MappingNode):
        return RecipeText(loader.construct_object(node, deep=True), None)
    try:
        value = loader.construct_object(node)
    except UNREADABLE:
        value = node.value  # no value to YAML, such as the date 2024-02-30 or a lone `=`
    return RecipeText(value, None if value is None else str(node.value))

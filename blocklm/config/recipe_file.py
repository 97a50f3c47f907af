"""The YAML file of a recipe, with the text of each value as it stands there.

YAML 1.1 reads `1.10` as the number 1.1, `0755` as 493, `12:30` as 750 and `no` as False. A branch may be called so: for a key of
text the file's own text counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blocklm.errors import UserError

# What PyYAML raises for a scalar that looks like a date or a number and is none, and for what has no end.
UNREADABLE = (yaml.YAMLError, ValueError, KeyError, AttributeError, TypeError, RecursionError)


@dataclass(frozen=True, slots=True)
class RecipeText:
    """A value of a recipe.

    Attributes:
        value: what YAML makes of it.
        text: how it stands in the file, None if it is a list, a mapping or null.
        items: those of a list.
    """

    value: Any
    text: str | None
    items: "tuple[RecipeText, ...]" = ()

    @property
    def python_text(self) -> str:
        """YAML's reading as text for Python's own types: `yes` is `True`, `.inf` is `inf`."""
        return str(self.value) if isinstance(self.value, bool | float) else self.text or ""


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping without repeated keys; raises `UserError` for anything else."""
    return {key: written.value for key, written in read_recipe_file(path).items()}


def read_recipe_file(path: Path) -> dict[str, RecipeText]:
    """Read a YAML mapping without repeated keys, and the text of its values.

    Raises:
        UserError: there is no such file, or it holds anything else.
    """
    if not path.is_file():
        raise UserError(f"recipe `{path}` does not exist", "recipes are YAML files such as `recipes/quickstart.yaml`")
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        mapping = node if isinstance(node, yaml.MappingNode) else yaml.MappingNode("", [])
        keys = [str(key.value) for key, _ in mapping.value]
        written = dict(_values(loader, mapping))
    except UNREADABLE as error:
        raise UserError(f"`{path}` is not readable YAML: {' '.join(str(error).split())}", "correct the file") from None
    if not written:
        raise UserError(f"`{path}` holds no `key: value` lines", "compare it with `recipes/quickstart.yaml`")
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"`{path}` sets `{repeated[0]}` more than once", "keep one of the two lines")
    return written


def _values(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Iterator[tuple[str, RecipeText]]:
    loader.flatten_mapping(node)  # merge keys: `<<: *defaults`
    for key, value in node.value:
        yield str(key.value), _written(loader, value)


def _written(loader: yaml.SafeLoader, node: yaml.Node) -> RecipeText:
    if isinstance(node, yaml.SequenceNode):
        items = tuple(_written(loader, item) for item in node.value)
        return RecipeText([item.value for item in items], None, items)
    if isinstance(node, yaml.MappingNode):
        return RecipeText(loader.construct_object(node, deep=True), None)
    try:
        value = loader.construct_object(node)
    except UNREADABLE:
        value = node.value  # such as the date 2024-02-30, or a lone `=`
    return RecipeText(value, None if value is None else str(node.value))

"""The keys, types and choices of TRL's and transformers' argument classes, read without importing them.

Importing `SFTConfig` loads torch and takes seven seconds; a misspelt key should be refused in one second. The classes
are plain annotated assignments, so their source is parsed instead and the same flags are rebuilt in a light dataclass.
"""

import ast
import dataclasses
import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

TRAINING_SOURCES = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/sft_config.py", "SFTConfig"),
)
MODEL_SOURCES = (("trl", "trainer/model_config.py", "ModelConfig"),)
# `auto` is ours: it packs if the model keeps packed documents apart and if packing fills the rows.
WIDER: dict[str, Any] = {"packing": Literal["auto", "true", "false", "True", "False"] | None}
ENUM_SOURCES = (("transformers", "trainer_utils.py"), ("transformers", "training_args.py"))


def training_schema(group: str) -> type:
    """Build a light dataclass with all keys of TRL's `SFTConfig`.

    Args:
        group: heading of the keys in `--help`.
    """
    return _light_class("TrainingKeys", group, TRAINING_SOURCES)


def model_schema(group: str) -> type:
    """Build a light dataclass with the keys of TRL's `ModelConfig` that `SFTConfig` lacks.

    Args:
        group: heading of the keys in `--help`.
    """
    training_keys = frozenset(name for name, _, _ in _fields(TRAINING_SOURCES))
    return _light_class("ModelKeys", group, MODEL_SOURCES, skip=training_keys)


def _light_class(
    name: str, group: str, sources: tuple[tuple[str, str, str], ...], skip: frozenset[str] = frozenset()
) -> type:
    descriptions = {key: field for key, *field in _fields(sources) if key not in skip}
    fields = [
        (
            key,
            annotation,
            dataclasses.field(default=False if annotation is bool else None, metadata={"help": help_text}),
        )
        for key, (annotation, help_text) in descriptions.items()
    ]
    return dataclasses.make_dataclass(name, fields, namespace={"_argument_group_name": group})


def _fields(sources: tuple[tuple[str, str, str], ...]) -> Iterator[tuple[str, Any, str]]:
    """Yield name, type and help of each field; a subclass's redefinition wins."""
    fields: dict[str, tuple[Any, str]] = {}
    for package, module, class_name in sources:
        for node in _class_body(_syntax(package, module), class_name):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                choices = _metadata(node.value, "choices")
                annotation = Literal[tuple(choices)] | None if choices else _type(node.annotation)
                annotation = WIDER.get(node.target.id, annotation)
                fields[node.target.id] = (annotation, str(_metadata(node.value, "help") or "").replace("%", "%%"))
    for name, (annotation, help_text) in fields.items():
        yield name, annotation, help_text


@cache
def _syntax(package: str, module: str) -> ast.Module:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is pinned in requirements.txt"
    return ast.parse((Path(spec.origin).parent / module).read_text(encoding="utf-8"))


def _class_body(tree: ast.Module, name: str) -> list[ast.stmt]:
    return next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


@cache
def _enums() -> dict[str, Any]:
    """Each `ExplicitEnum` of transformers as the `Literal` of its values."""
    enums: dict[str, Any] = {}
    for source in ENUM_SOURCES:
        for node in _syntax(*source).body:
            if isinstance(node, ast.ClassDef) and "ExplicitEnum" in map(ast.unparse, node.bases):
                values = [
                    item.value.value
                    for item in node.body
                    if isinstance(item, ast.Assign) and isinstance(item.value, ast.Constant)
                ]
                enums[node.name] = Literal[tuple(values)]
    return enums


def _type(annotation: ast.expr) -> Any:
    """The type by which argparse checks a flag: an enum's choices, or else the type that `HfArgumentParser` picks."""
    options = [option for option in ast.unparse(annotation).split(" | ") if option != "None"]
    for option in options:
        if option in _enums():
            return _enums()[option] | None
    if len(options) == 1 and options[0].startswith("Literal"):
        return Literal[tuple(ast.literal_eval(options[0].removeprefix("Literal")))] | None
    if any(option.startswith("dict") for option in options):
        return dict | str | None
    if "list[str]" in options:
        return list[str] | None
    if options == ["bool"]:
        return bool  # a plain `bool` needs no value on the command line
    scalars: dict[str, Any] = {"int": int, "float": float}
    return scalars.get(options[0], str) | None if len(options) == 1 else str | None


def _metadata(value: ast.expr, name: str) -> Any:
    """An entry of the `metadata` of a `field(...)` call; None if it is missing or computed."""
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            for key, entry in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == name:
                    with suppress(ValueError):
                        return ast.literal_eval(entry)
    return None

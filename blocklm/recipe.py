"""What a user may set, and the strict reading of it.

A recipe is a flat YAML file: keys of TRL's `SFTConfig` and `ModelConfig` by their own names, and the few of ours below.
It is checked as strictly as a command line, in under a second, before torch is imported.
"""

import argparse
import dataclasses
import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import yaml
from trl import TrlParser

from blocklm.errors import UserError
from blocklm.schema import model_schema, training_schema

# Where our default differs from the library's: nothing leaves the machine unless asked, what is watched goes to
# TensorBoard, disks stay small, and evaluation keeps no logits (transformers #8476: they filled the memory).
LIBRARY_DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/default",
    "push_to_hub": False,
    "hub_private_repo": True,
    "report_to": ["tensorboard"],
    "save_total_limit": 2,
    "prediction_loss_only": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "restore_callback_states_from_checkpoint": True,
}


@dataclass(frozen=True)
class MiningArguments:
    """Which history is read and what of it becomes the corpus."""

    _argument_group_name: ClassVar[str] = "corpus"
    repo: str = field(default=".", metadata={"help": "Path of the git repository to learn from."})
    corpus_dir: str = field(default="corpora", metadata={"help": "Where mined corpora are cached."})
    max_changed_lines: int = field(
        default=1000, metadata={"help": "A file's change with more added and deleted lines than this is dropped."}
    )
    test_commits: int | None = field(
        default=None,
        metadata={"help": "Newest commits kept for the exam. Default: a tenth of the usable ones, at most 500."},
    )


@dataclass(frozen=True)
class RunArguments:
    """What of the corpus is trained on, and when to stop."""

    _argument_group_name: ClassVar[str] = "run"
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Train on this many of the newest training samples. Default: all."}
    )
    max_validation_samples: int | None = field(
        default=200, metadata={"help": "Validation samples used at each evaluation, spread over the commits."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better validation loss."}
    )


@dataclass(frozen=True)
class ExamArguments:
    """How base and tuned model are compared on the commits after the split."""

    _argument_group_name: ClassVar[str] = "exam"
    exam: bool = field(default=True, metadata={"help": "Score base and tuned model on the test commits at the end."})
    exam_items: int = field(default=400, metadata={"help": "At most this many test samples are scored."})
    exam_items_per_commit: int = field(default=4, metadata={"help": "At most this many of them from one commit."})


@dataclass(frozen=True)
class Recipe:
    """One run, fully said; `training` and `model` hold only what differs from the libraries' own defaults."""

    mining: MiningArguments
    run: RunArguments
    exam: ExamArguments
    model: dict[str, Any]
    training: dict[str, Any]

    @property
    def output_dir(self) -> Path:
        """The run directory."""
        return Path(self.training["output_dir"])

    def resolved(self) -> dict[str, Any]:
        """The flat keys that reproduce this run."""
        own = [dataclasses.asdict(part) for part in (self.mining, self.run, self.exam)]
        return {key: value for part in (*own, self.model, self.training) for key, value in part.items()}

    def save(self, path: Path) -> None:
        """Write the resolved recipe as YAML that `parse_recipe` reads back to an equal `Recipe`."""
        path.write_text(yaml.safe_dump(self.resolved(), sort_keys=False, allow_unicode=True), encoding="utf-8")


def parse_recipe(argv: Sequence[str], description: str | None = None) -> Recipe:
    """Read `RECIPE.yaml [--key value ...]`; the command line wins over the file.

    Raises:
        UserError: no recipe, unreadable YAML, unknown or repeated key, wrong type or wrong choice.
    """
    model_keys = model_schema("model and adapter (keys of TRL's ModelConfig)")
    training_keys = training_schema("training (keys of TRL's SFTConfig)")
    parser = RecipeParser((MiningArguments, RunArguments, ExamArguments, model_keys, training_keys), description)
    mining, run, exam, model, training, given = parser.parse_recipe(argv)
    recipe = Recipe(
        mining=mining,
        run=run,
        exam=exam,
        model={key: value for key, value in vars(model).items() if key in given},
        training=LIBRARY_DEFAULTS | {key: value for key, value in vars(training).items() if key in given},
    )
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    if not recipe.model.get("model_name_or_path"):
        raise UserError("`model_name_or_path` is not set", "name a model directory or hub model in the recipe")
    if recipe.training.get("hub_token"):
        raise UserError(
            "`hub_token` may not stand in a recipe: the trainer stores its arguments in clear text",
            "set the environment variable HF_TOKEN or run `hf auth login`",
        )
    if recipe.training.get("fp16") and recipe.training.get("bf16"):
        raise UserError("`fp16` and `bf16` are both true", "set at most one; with neither the device decides")
    positive = {"exam_items": recipe.exam.exam_items, "exam_items_per_commit": recipe.exam.exam_items_per_commit}
    positive |= {"max_changed_lines": recipe.mining.max_changed_lines}
    optional = dataclasses.asdict(recipe.run) | {"test_commits": recipe.mining.test_commits}
    positive |= {key: value for key, value in optional.items() if value is not None}
    for key, value in positive.items():
        if value < 1:
            raise UserError(f"`{key}` must be at least 1, got {value}", f"correct `{key}` or leave it out")


class RecipeParser(TrlParser):
    """Reads a recipe as strictly as the command line: same flags, same types, same choices.

    TrlParser itself does not open a positional YAML, lets YAML values skip type and choice checks, and takes the last
    of two equal keys.
    """

    def __init__(self, dataclass_types: Sequence[type], description: str | None) -> None:
        # Read before HfArgumentParser narrows each field's type to the one argparse converts with.
        fields = [item for kind in dataclass_types for item in dataclasses.fields(kind)]
        self._mappings = {item.name for item in fields if item.type == dict | str | None}
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
        recipe = _load(Path(arguments.pop(0)))
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


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(
            f"recipe `{path}` does not exist", f"recipes are YAML files such as `recipes{os.sep}quickstart.yaml`"
        )
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

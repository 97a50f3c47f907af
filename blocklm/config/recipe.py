"""The keys of a run as one frozen value, and the strict reading of it from a file and the command line.

A recipe is a flat YAML file: keys of TRL's `SFTConfig` and `ModelConfig` by their own names, and the groups of our own.
It is checked as strictly as a command line, in under a second, before torch is imported.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocklm.config.check import CheckArguments, check_checks
from blocklm.config.exam import ExamArguments, check_exam
from blocklm.config.generation import BehaviourArguments, check_behaviour
from blocklm.config.hardware import WatchArguments, check_watch
from blocklm.config.library_schema import model_schema, training_schema
from blocklm.config.lora import LoraArguments, check_lora
from blocklm.config.mining import MiningArguments, check_mining
from blocklm.config.parser import RecipeParser
from blocklm.config.release import HandoverArguments, check_handover
from blocklm.config.retrieval import RetrievalArguments, check_retrieval
from blocklm.config.run import RunArguments, check_run
from blocklm.config.sampling import HUNK_VIEWS, PLACE_VIEWS, VIEWS, SamplingArguments, parse_sampling
from blocklm.config.training import check_training
from blocklm.errors import UserError

DEFAULT_MAX_LENGTH = 1024  # TRL's
PACKING = {"auto": "auto", "true": True, "True": True, "false": False, "False": False, "None": False}
DEFAULT_BATCH_SIZE = 8  # transformers'

# Where our default differs from the library's: nothing is pushed unless asked, metrics go to TensorBoard, two
# checkpoints are kept, evaluation keeps no logits (transformers #8476: they filled the memory), and processes wait up
# to a day for the one that mines.
LIBRARY_DEFAULTS: dict[str, Any] = {
    "output_dir": "runs/default",
    "push_to_hub": False,
    "hub_private_repo": True,
    "report_to": ["tensorboard"],
    "save_total_limit": 2,
    "prediction_loss_only": True,
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "restore_callback_states_from_checkpoint": True,
    "include_num_input_tokens_seen": "non_padding",
    "ddp_timeout": 24 * 3600,
}

NEVER_NULL = ("output_dir", "push_to_hub", "hub_private_repo", "report_to", "ddp_timeout")

OWN: dict[str, type[Any]] = {
    "mining": MiningArguments,
    "sampling": SamplingArguments,
    "run": RunArguments,
    "exam": ExamArguments,
    "check": CheckArguments,
    "lora": LoraArguments,
    "watch": WatchArguments,
    "handover": HandoverArguments,
    "behaviour": BehaviourArguments,
    "retrieval": RetrievalArguments,
}


@dataclass(frozen=True)
class Recipe:
    """All settings of one run; `training` and `model` hold only the keys that differ from the libraries' defaults."""

    mining: MiningArguments
    sampling: SamplingArguments
    run: RunArguments
    exam: ExamArguments
    check: CheckArguments
    lora: LoraArguments
    watch: WatchArguments
    handover: HandoverArguments
    behaviour: BehaviourArguments
    retrieval: RetrievalArguments
    model: dict[str, Any]
    training: dict[str, Any]

    @property
    def exam_views(self) -> tuple[str, ...]:
        """The views of validation and exam: the recipe's, else those an editor asks, else that of largest share."""
        if self.exam.exam_view is not None:
            return (self.exam.exam_view,)
        shares = {view: share for view, share in self.sampling.shares.items() if view in HUNK_VIEWS}
        asked = tuple(view for view in PLACE_VIEWS if view in shares)
        return asked or (max(shares, key=lambda view: shares[view]),)

    @property
    def views(self) -> list[str]:
        """The views in which samples are rendered."""
        return [view for view in VIEWS if view in self.sampling.shares or view in self.exam_views]

    @property
    def output_dir(self) -> Path:
        """The run directory."""
        return Path(self.training["output_dir"])

    def resolved(self) -> dict[str, Any]:
        """The flat keys that reproduce this run; `parse_recipe` reads them from YAML back to an equal `Recipe`."""
        own = [dataclasses.asdict(getattr(self, name)) for name in OWN]
        return {key: value for part in (*own, self.model, self.training) for key, value in part.items()}


def parse_recipe(argv: Sequence[str], description: str | None = None) -> Recipe:
    """Read `RECIPE.yaml [--key value ...]`; the command line wins over the file.

    Raises:
        UserError: the recipe is missing or unreadable, or a key is unknown, repeated, or of a wrong type or value.
    """
    model_keys = model_schema("model and adapter (keys of TRL's ModelConfig)")
    training_keys = training_schema("training (keys of TRL's SFTConfig)")
    *own, model, training, given = RecipeParser((*OWN.values(), model_keys, training_keys), description).parse_recipe(
        argv
    )
    parts = dict(zip(OWN, own, strict=True))
    recipe = Recipe(
        **parts | {"sampling": parse_sampling(parts["sampling"])},
        model={key: value for key, value in vars(model).items() if key in given},
        training=LIBRARY_DEFAULTS
        | {key: value for key, value in vars(training).items() if _is_given(key, value, given)},
    )
    if "packing" in given:
        recipe.training["packing"] = PACKING[str(recipe.training["packing"])]
    _check(recipe)
    return recipe


def _is_given(key: str, value: Any, given: set[str]) -> bool:
    """Whether the recipe sets a key; null keeps our default where a run needs a value."""
    return key in given and (value is not None or key not in NEVER_NULL)


def _check(recipe: Recipe) -> None:
    if not recipe.model.get("model_name_or_path"):
        raise UserError("`model_name_or_path` is not set", "name a model directory or hub model in the recipe")
    if recipe.training.get("fp16") and recipe.training.get("bf16"):
        raise UserError("`fp16` and `bf16` are both true", "set at most one; with neither the device decides")
    if recipe.model.get("load_in_4bit") and recipe.model.get("load_in_8bit"):
        raise UserError("`load_in_4bit` and `load_in_8bit` are both true", "set at most one")
    if recipe.run.target_exposures is not None and recipe.sampling.phases:
        raise UserError(
            "`target_exposures` and `phases` both decide what is read next", "give one of them in the recipe"
        )
    if recipe.sampling.repository_weights and not recipe.mining.split_each:
        raise UserError(
            "`repository_weights` weighs repositories that are split each by its own time", "add `split_each: true`"
        )
    check_run(recipe.run)
    check_mining(recipe.mining)
    check_lora(recipe.lora, recipe.model)
    check_behaviour(recipe.behaviour)
    check_exam(recipe.exam)
    check_checks(recipe.check, recipe.views)
    check_watch(recipe.watch)
    check_handover(recipe.handover, recipe.model, recipe.training)
    check_retrieval(recipe.retrieval)
    check_training(recipe.training, recipe.model)

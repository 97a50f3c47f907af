"""What a user may set, and the strict reading of it.

A recipe is a flat YAML file: keys of TRL's `SFTConfig` and `ModelConfig` by their own names, and the few of ours below.
It is checked as strictly as a command line, in under a second, before torch is imported.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from blocklm.config.check import CheckArguments, check_checks
from blocklm.config.exam import ExamArguments, check_exam
from blocklm.config.generation import BehaviourArguments, check_behaviour
from blocklm.config.hardware import WatchArguments, check_watch
from blocklm.config.library_schema import model_schema, training_schema
from blocklm.config.lora import LoraArguments, check_lora
from blocklm.config.parser import RecipeParser
from blocklm.config.release import HandoverArguments, check_handover
from blocklm.config.retrieval import RetrievalArguments, check_retrieval
from blocklm.config.sampling import HUNK_VIEWS, VIEWS, SamplingArguments, check_glob, checked
from blocklm.errors import UserError

PASSWORD = re.compile(r"://[^/@:]*:[^/@]+@")
DEFAULT_MAX_LENGTH = 1024  # TRL's
PACKING = {"auto": "auto", "true": True, "True": True, "false": False, "False": False, "None": False}
DEFAULT_BATCH_SIZE = 8  # transformers'

# Where our default differs from the library's: nothing leaves the machine unless asked, what is watched goes to
# TensorBoard, disks stay small, evaluation keeps no logits (transformers #8476: they filled the memory), and processes
# wait a day in seconds for the one that mines.
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


@dataclass(frozen=True)
class MiningArguments:
    """Which history is read and what of it becomes the corpus."""

    _argument_group_name: ClassVar[str] = "corpus"
    repo: list[str] = field(
        default_factory=lambda: ["."],
        metadata={"help": "Git repository to learn from: a path or URL, or several of them as one history."},
    )
    branch: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit whose history is read. Default: HEAD."}
    )
    fetch: bool = field(
        default=False, metadata={"help": "Ask the URL of a repository cloned earlier for new commits first."}
    )
    since: str | None = field(
        default=None, metadata={"help": "Read commits made on or after this date, such as 2024-01-31."}
    )
    until: str | None = field(default=None, metadata={"help": "Read commits made before or on this date."})
    max_commits: int | None = field(default=None, metadata={"help": "Read at most this many of the newest commits."})
    paths: list[str] | None = field(
        default=None, metadata={"help": "Learn only from files that match one of these globs (as in .gitignore)."}
    )
    exclude: list[str] | None = field(
        default=None, metadata={"help": "Learn nothing from files that match one of these globs."}
    )
    context_lines: int = field(default=3, metadata={"help": "Unchanged lines read around each change."})
    corpus_dir: str = field(default="corpora", metadata={"help": "Where clones of URLs and mined corpora are kept."})
    max_changed_lines: int = field(
        default=1000, metadata={"help": "A file's change with more added and deleted lines than this is dropped."}
    )
    disable_rules: list[str] | None = field(
        default=None,
        metadata={"help": "Names of rules, as the funnel of `scripts/mine.py` lists them, that drop nothing."},
    )
    test_commits: int | None = field(
        default=None,
        metadata={"help": "Newest commits kept for the exam. Default: a tenth, at least 40 of many, at most 500."},
    )


@dataclass(frozen=True)
class RunArguments:
    """What of the corpus is trained on, and when to stop."""

    _argument_group_name: ClassVar[str] = "run"
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Size of an epoch, filled with the newest samples. Default: all samples."}
    )
    target_tokens: int | None = field(
        default=None, metadata={"help": "Tokens to train on; sets `num_train_epochs` between the next two."}
    )
    min_epochs: float = field(default=1.0, metadata={"help": "Fewest epochs that `target_tokens` may lead to."})
    max_epochs: float = field(default=4.0, metadata={"help": "Most epochs that `target_tokens` may lead to."})
    max_validation_samples: int | None = field(
        default=200, metadata={"help": "Validation samples used at each evaluation, spread over the commits."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations without a better validation loss."}
    )
    continue_from: str | None = field(
        default=None,
        metadata={
            "help": "Run directory to top up: start from its result, learn what is new since, and go back to it if the exam "
            "finds that worse."
        },
    )
    replay_share: float = field(
        default=0.3, metadata={"help": "Share of what that run had learned before in what a top-up reads."}
    )


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
    """One run, fully said; `training` and `model` hold only what differs from the libraries' own defaults."""

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
    def exam_view(self) -> str:
        """The view in which validation and exam ask: the one with the largest share unless the recipe names one."""
        shares = {view: share for view, share in self.sampling.shares.items() if view in HUNK_VIEWS}
        return self.exam.exam_view or max(shares, key=lambda view: shares[view])

    @property
    def views(self) -> list[str]:
        """The views that are rendered."""
        return [view for view in VIEWS if view in self.sampling.shares or view == self.exam_view]

    @property
    def output_dir(self) -> Path:
        """The run directory."""
        return Path(self.training["output_dir"])

    def resolved(self) -> dict[str, Any]:
        """The flat keys that reproduce this run: written as YAML, `parse_recipe` reads them back to an equal `Recipe`."""
        own = [dataclasses.asdict(getattr(self, name)) for name in OWN]
        return {key: value for part in (*own, self.model, self.training) for key, value in part.items()}


def parse_recipe(argv: Sequence[str], description: str | None = None) -> Recipe:
    """Read `RECIPE.yaml [--key value ...]`; the command line wins over the file.

    Raises:
        UserError: no recipe, unreadable YAML, unknown or repeated key, wrong type or wrong choice.
    """
    model_keys = model_schema("model and adapter (keys of TRL's ModelConfig)")
    training_keys = training_schema("training (keys of TRL's SFTConfig)")
    *own, model, training, given = RecipeParser((*OWN.values(), model_keys, training_keys), description).parse_recipe(
        argv
    )
    parts = dict(zip(OWN, own, strict=True))
    recipe = Recipe(
        **parts | {"sampling": checked(parts["sampling"])},
        model={key: value for key, value in vars(model).items() if key in given},
        training=LIBRARY_DEFAULTS | {key: value for key, value in vars(training).items() if key in given},
    )
    if "packing" in given:
        recipe.training["packing"] = PACKING[str(recipe.training["packing"])]
    _check(recipe)
    return recipe


def _check(recipe: Recipe) -> None:
    if not recipe.model.get("model_name_or_path"):
        raise UserError("`model_name_or_path` is not set", "name a model directory or hub model in the recipe")
    if recipe.training.get("fp16") and recipe.training.get("bf16"):
        raise UserError("`fp16` and `bf16` are both true", "set at most one; with neither the device decides")
    positive = {"max_changed_lines": recipe.mining.max_changed_lines}
    if not 0 < recipe.run.min_epochs <= recipe.run.max_epochs:
        raise UserError(
            f"`min_epochs` {recipe.run.min_epochs} and `max_epochs` {recipe.run.max_epochs} leave no number of epochs",
            "0 < min_epochs <= max_epochs",
        )
    limits = ("max_train_samples", "max_validation_samples", "early_stopping_patience", "target_tokens")
    optional = {key: getattr(recipe.run, key) for key in limits}
    optional |= {"test_commits": recipe.mining.test_commits, "max_commits": recipe.mining.max_commits}
    positive |= {key: value for key, value in optional.items() if value is not None}
    for key, value in positive.items():
        if value < 1:
            raise UserError(f"`{key}` must be at least 1, got {value}", f"correct `{key}` or leave it out")
    if not 0 <= recipe.run.replay_share < 1:
        raise UserError(
            f"`replay_share` cannot be {recipe.run.replay_share}",
            "0.3 is three tenths of what is read; 0 replays nothing",
        )
    _check_mining(recipe.mining)
    check_lora(recipe.lora, recipe.model)
    check_behaviour(recipe.behaviour)
    check_exam(recipe.exam)
    check_checks(recipe.check, recipe.views)
    check_watch(recipe.watch)
    check_handover(recipe.handover, recipe.model, recipe.training)
    check_retrieval(recipe.retrieval)


def _check_mining(mining: MiningArguments) -> None:
    if not mining.repo:
        raise UserError("`repo` names no repository", "give a path or URL, or leave `repo` out for this folder")
    if any(PASSWORD.search(source) for source in mining.repo):
        raise UserError(
            "`repo` may not hold a password: the run directory stores its recipe in clear text",
            "leave it out of the URL and use git's credential helper or ssh",
        )
    for key in ("paths", "exclude"):
        for pattern in getattr(mining, key) or ():
            check_glob(key, pattern)
    if mining.context_lines < 0:
        raise UserError(f"`context_lines` cannot be {mining.context_lines}", "3 is git's own; 0 shows no context")
    for key in ("since", "until"):
        given = getattr(mining, key)
        try:
            datetime.fromisoformat("2024-01-31" if given is None else given)
        except ValueError:
            raise UserError(
                f"`{key}` is no date: {given!r}", "write it as 2024-01-31 or 2024-01-31T12:00:00"
            ) from None

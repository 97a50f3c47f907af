"""The exam on a run that is complete, once more: with all arms, on new commits, against other models or another's adapter."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from blocklm.adapters import check_same_model, previous_arm
from blocklm.changes import Changes
from blocklm.corpus import build_corpus
from blocklm.errors import UserError
from blocklm.exam import added_bits
from blocklm.families import FAMILY, Family, prompts_for
from blocklm.items import exam_items
from blocklm.mining import mine
from blocklm.model import base_arm, load_base, load_tokenizer, load_tuned, model_config, positions, special_tokens
from blocklm.precision import Precision, choose_precision
from blocklm.recipe import Recipe, parse_recipe
from blocklm.report import read_manifest
from blocklm.repository import Repository
from blocklm.significance import relative_change
from blocklm.sitting import Sitting
from blocklm.topup import learned_commits, unlearned


@dataclass(frozen=True)
class _Model:
    """What it takes to open a base model."""

    tokenizer: PreTrainedTokenizerBase
    config: ModelConfig
    precision: Precision
    trust: bool

    def base(self) -> PreTrainedModel:
        return load_base(self.config, self.precision, self.trust)


@dataclass(frozen=True)
class Compared:
    """What else answers: base models by name, and a run on another repository as a control of what the form alone gives."""

    models: Sequence[str] = ()
    control: Path | None = None


def evaluate(
    run_dir: Path, recipe: Recipe, repositories: Sequence[Repository], compared: Compared, new_commits: bool
) -> dict[str, Any]:
    """Sit the exam again; answers that are in the run directory are not asked anew.

    Args:
        run_dir: of the complete run.
        recipe: its own, with the keys of the exam that may differ.
        repositories: where the history is now.
        compared: what else answers.
        new_commits: ask about commits that the run had not, instead of its own exam.

    Raises:
        UserError: nothing is left to ask, or what is compared does not fit.
    """
    manifest = complete_manifest(run_dir)
    config, trust = model_config(recipe.model), bool(recipe.training.get("trust_remote_code"))
    precision = choose_precision(recipe.training.get("fp16"), recipe.training.get("bf16"))
    tokenizer = load_tokenizer(config, trust)
    # The head that was split for training: on a later one, commits that were trained on would not be told apart.
    then = [
        replace(there, head=source["head"])
        for there, source in zip(repositories, manifest["repository"]["sources"], strict=True)
    ]
    now = list(repositories) if new_commits else then
    changes = mine(now, recipe.mining)
    learned = learned_commits(run_dir) if recipe.run.continue_from is not None else frozenset[str]()
    if new_commits:
        learned = frozenset(mine(then, recipe.mining).dataset.unique("commit"))
    sitting_of = partial(_sitting, recipe, now, changes, learned, manifest["plan"]["max_length"])
    prompts = {view: FAMILY[name] for view, name in manifest["corpus"]["prompts"].items()}
    opened = _Model(tokenizer, config, precision, trust)
    result = _own_arms(opened, run_dir, sitting_of, prompts, compared.control)
    models = {name: _other(name, result, sitting_of, opened) for name in compared.models}
    return result | ({"models": models} if models else {})


def complete_manifest(run_dir: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        UserError: it is not complete.
    """
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["status"] != "complete" or not manifest["plan"]:
        raise UserError(
            f"`{run_dir}` is not a complete run",
            "name the `output_dir` of a run that went to its end with this version",
        )
    return manifest


def _sitting(
    recipe: Recipe,
    repositories: Sequence[Repository],
    changes: Changes,
    learned: frozenset[str],
    max_length: int,
    model: _Model,
    prompts: dict[str, Family],
    reach: int | None,
) -> Sitting:
    corpus = build_corpus(recipe, repositories, changes, prompts, special_tokens(model.tokenizer))
    if learned:
        corpus.splits["test"] = unlearned(corpus.splits["test"], learned)
        if recipe.exam_view not in corpus.splits["test"]["view"][:]:
            raise UserError("no commit is left that the run had not before", "`git pull` first, or ask later")
    return Sitting(
        recipe, repositories, corpus, model.tokenizer, model.config, model.precision.dtype, max_length, reach
    )


def _own_arms(
    model: _Model, run_dir: Path, sitting_of: Callable[..., Sitting], prompts: dict[str, Family], control: Path | None
) -> dict[str, Any]:
    tuned = load_tuned(model.config, model.precision, run_dir, model.trust)
    others = {}
    if control is not None:
        complete_manifest(control)
        check_same_model(model.config, model_config(parse_recipe([str(control / "recipe.yaml")]).model), control)
        others["control"] = partial(
            previous_arm, tuned, control, lambda: load_tuned(model.config, model.precision, control, model.trust)
        )
    sitting = sitting_of(model, prompts, positions(tuned.config))
    return sitting.sit(lambda: nullcontext(tuned), partial(base_arm, tuned, model.base), others)


def _other(name: str, result: dict[str, Any], sitting_of: Callable[..., Sitting], ours: _Model) -> dict[str, Any]:
    """Another base model on the same questions, in the prompts of its own family; bits per byte do not depend on tokens."""
    config = replace(ours.config, model_name_or_path=name, model_revision="main")
    tokenizer = load_tokenizer(config, ours.trust)
    model = _Model(tokenizer, config, ours.precision, ours.trust)
    sitting = sitting_of(model, prompts_for(special_tokens(tokenizer), "auto"), None)
    of_tuned = {item["id"]: item for item in result["per_item"]}
    test = sitting.corpus.splits["test"]
    rows = test.select([at for at, ident in enumerate(test["id"][:]) if ident in of_tuned])
    items = exam_items(rows[:], tokenizer, sitting.max_length)
    if not items:
        raise UserError(f"`{name}` can read none of the questions", "name another in `--model`")
    bits = added_bits(model.base(), items, sitting.pad_token_id, sitting.dtype, f"exam: {name}")
    size = sum(item.added_bytes for item in items)
    commits: dict[str, list[float]] = {}
    for item, theirs in zip(items, bits, strict=True):
        total = commits.setdefault(item.commit, [0.0, 0.0])
        total[0] += theirs
        total[1] += of_tuned[item.id]["tuned_bits"]
    return {
        "items": len(items),
        "bits_per_byte": sum(bits) / size,
        "tuned_bits_per_byte": sum(total[1] for total in commits.values()) / size,
        "tuned_against_it": relative_change(np.array(list(commits.values()))),
    }

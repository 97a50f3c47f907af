"""Repeats the exam of a complete run: with all arms, on new commits, or against other models and adapters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from blocklm.corpus.build import build_corpus
from blocklm.corpus.new_samples import unlearned
from blocklm.corpus.prompt_templates import FAMILY, Family, ModelPrompts, prompts_for
from blocklm.errors import UserError
from blocklm.evaluation.exam.controls import compare_with_controls, control_arms, open_controls
from blocklm.evaluation.exam.items import exam_items
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.evaluation.exam.significance import relative_change
from blocklm.evaluation.execution.check import check_edits
from blocklm.git.repository import Repository, open_repositories
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.adapter import base_arm
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.pretrained import max_positions, special_tokens
from blocklm.runs.completed import CompletedRun
from blocklm.runs.top_up import learned_commits


@dataclass(frozen=True)
class ComparedModels:
    """Models to compare with.

    Attributes:
        models: names of other base models.
        controls: directories of runs on other repositories, whose gain comes from the form of prompts alone.
    """

    models: Sequence[str] = ()
    controls: Sequence[Path] = ()


def evaluate(run: CompletedRun, compared: ComparedModels, new_commits: bool) -> dict[str, Any]:
    """Run the exam again; answers stored in the run directory are reused.

    Args:
        run: the complete run, with the exam keys that may differ from training.
        compared: further models to compare with.
        new_commits: if true, asks about commits that came after the run instead of the run's own test commits.

    Raises:
        UserError: no question is left, or a compared model does not fit the run.
    """
    # The run's repositories are at its own head: at a later one the split would move, and training commits be asked.
    repositories = open_repositories(run.recipe.mining) if new_commits else run.repositories
    changes = mine(repositories, run.recipe.mining)
    learned = learned_commits(run.path) if run.recipe.run.continue_from is not None else frozenset[str]()
    if new_commits:
        learned = frozenset(mine(run.repositories, run.recipe.mining).dataset.unique("commit"))
    setup_of = partial(_setup, repositories, changes, learned)
    result = _own_arms(run, setup_of, compared.controls)
    models = {name: _other(name, result, setup_of, run) for name in compared.models}
    return result | ({"models": models} if models else {})


def _setup(
    repositories: Sequence[Repository],
    changes: Changes,
    learned: frozenset[str],
    run: CompletedRun,
    families: dict[str, Family],
    positions: int | None,
) -> ExamSetup:
    corpus = build_corpus(run.recipe, repositories, changes, ModelPrompts(families, special_tokens(run.tokenizer)))
    if learned:
        test = unlearned(corpus.splits["test"], learned)
        corpus = replace(corpus, splits=DatasetDict(corpus.splits | {"test": test}))
        if not set(run.recipe.exam_views).intersection(corpus.splits["test"]["view"][:]):
            raise UserError("there are no commits that the run did not have", "`git pull` first, or try again later")
    length = min(run.manifest["plan"]["max_length"], positions or run.manifest["plan"]["max_length"])
    return ExamSetup(run.recipe, repositories, corpus, run.tokenizer, run.source, length, positions)


def _own_arms(run: CompletedRun, setup_of: Callable[..., ExamSetup], paths: Sequence[Path]) -> dict[str, Any]:
    controls = open_controls(run, paths)
    tuned = run.tuned()
    prompts = {view: FAMILY[name] for view, name in run.manifest["corpus"]["prompts"].items()}
    setup = setup_of(run, prompts, max_positions(tuned.model.config))
    base = partial(base_arm, tuned, run.source.base)
    result = setup.run(tuned.opened, base, control_arms(tuned, controls)) | check_edits(setup, tuned.opened, base)
    return result | (compare_with_controls(result, controls) if controls else {})


def _other(
    name: str, result: dict[str, Any], setup_of: Callable[..., ExamSetup], ours: CompletedRun
) -> dict[str, Any]:
    """Ask another base model the same questions in its own prompts; bits per byte do not depend on the tokenizer."""
    theirs = replace(ours, source=ours.source.with_name(name))
    prompts = prompts_for(special_tokens(theirs.tokenizer), "auto")
    setup = setup_of(theirs, prompts, max_positions(theirs.source.architecture()))
    of_tuned = {item["id"]: item for item in result["per_item"]}
    test = setup.corpus.splits["test"]
    rows = test.select([row for row, sample_id in enumerate(test["id"][:]) if sample_id in of_tuned])
    items = exam_items(setup.corpus.places.fill(rows[:], setup.max_length), theirs.tokenizer, setup.max_length)
    if not items:
        raise UserError(f"`{name}` can read none of the questions", "give another model to `--model`")
    bits = bits_of_rows(theirs.base(), [item.encoded for item in items], f"exam: {name}")
    size = sum(item.added_bytes for item in items)
    commits: dict[str, list[float]] = {}
    for item, needed in zip(items, bits, strict=True):
        total = commits.setdefault(item.commit, [0.0, 0.0])
        total[0] += needed
        total[1] += of_tuned[item.id]["tuned_bits"]
    return {
        "items": len(items),
        "bits_per_byte": sum(bits) / size,
        "tuned_bits_per_byte": sum(total[1] for total in commits.values()) / size,
        "tuned_against_it": relative_change(np.array(list(commits.values()))),
    }

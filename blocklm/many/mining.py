"""Mines a list of repositories: the tables of each go into its log, what was done into its outcome."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from blocklm.config.recipe import DEFAULT_BATCH_SIZE, DEFAULT_MAX_LENGTH, Recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.files import check_spelling, write_json
from blocklm.git.repository import Repository, open_repositories
from blocklm.many.processes import Task
from blocklm.many.sources import Source
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.models.vocabulary import Vocabulary
from blocklm.runs.report.console_tables import corpus_table, length_table, repository_table
from blocklm.training.length_report import length_report
from blocklm.training.token_counts import CountedSamples, count_tokens

LOGS = "logs"  # in `corpus_dir`


def mining_tasks(recipe: Recipe, sources: Sequence[Source]) -> list[Task]:
    """One task for each repository, with its log and outcome in `corpus_dir/logs`.

    Raises:
        UserError: the recipe's model cannot be found, or `corpus_dir` is not spelled in UTF-8.
    """
    check_spelling("corpus_dir", Path(recipe.mining.corpus_dir))
    vocabulary_of(recipe)  # stores it: otherwise the first task of each process would load transformers for it
    logs = Path(recipe.mining.corpus_dir) / LOGS
    tasks = []
    for source in sources:
        outcome = logs / f"{source.name}.json"
        own = replace(recipe, mining=replace(recipe.mining, repo=[source.location]))
        work, result = partial(mine_repository, own, outcome), partial(_read, outcome)
        tasks.append(Task(source, work, result, logs / f"{source.name}.log", outcome))
    return tasks


def mine_repository(recipe: Recipe, outcome: Path) -> None:
    """Mine and render a repository: write its tables to stdout, and what was done to the file of its outcome.

    Raises:
        UserError: the repository cannot be read, or too little of it is left to learn from.
    """
    repositories = open_repositories(recipe.mining)
    changes = mine(repositories, recipe.mining)
    repository = changes.report["repository"]
    sys.stdout.write(f"{repository_table(repository)}\n")
    vocabulary = vocabulary_of(recipe)
    special = frozenset(vocabulary.special_tokens)
    prompts = ModelPrompts(prompts_for(special, recipe.sampling.template), special)
    corpus, tables = build_and_count(recipe, repositories, changes, prompts, vocabulary)
    sys.stdout.write(f"{tables}\n{corpus.folder}\n")
    state = "unchanged" if (changes.cache, corpus.cache) == ("hit", "hit") else "extended"
    samples = corpus.report["splits"]["train"]["samples"]
    write_json(
        outcome,
        {
            "state": "built" if changes.cache == "built" else state,
            "commits": repository["commits"],
            "samples": samples,
        },
    )


def vocabulary_of(recipe: Recipe) -> Vocabulary:
    """The vocabulary of the recipe's model; raises `UserError` if the model cannot be found."""
    trust = bool(recipe.training.get("trust_remote_code", False))
    return Vocabulary.of(recipe.model, trust, Path(recipe.mining.corpus_dir))


def build_and_count(
    recipe: Recipe,
    repositories: Sequence[Repository],
    changes: Changes,
    prompts: ModelPrompts,
    vocabulary: Vocabulary,
) -> tuple[Corpus, str]:
    """Build the corpus of mined changes and count its tokens.

    Args:
        recipe: the recipe.
        repositories: the repositories that were mined.
        changes: the changes mined from them.
        prompts: the prompts of the model, for every view.
        vocabulary: the vocabulary of the model.

    Returns:
        The corpus, and the tables of its samples and their lengths.

    Raises:
        UserError: too little is left to learn from.
    """
    corpus = build_corpus(recipe, repositories, changes, prompts)
    length = recipe.training.get("max_length") or DEFAULT_MAX_LENGTH
    counted = CountedSamples(corpus.splits["train"], corpus.report["key"], corpus.places.fill, length)
    counts = count_tokens(counted, vocabulary, corpus.folder)
    batch = recipe.training.get("per_device_train_batch_size") or DEFAULT_BATCH_SIZE
    lengths = length_table(length_report(counts, length, batch), length, batch)
    return corpus, f"{corpus_table(corpus.report)}\n{lengths}"


def _read(outcome: Path) -> Mapping[str, Any]:
    return dict(json.loads(outcome.read_text(encoding="utf-8")))

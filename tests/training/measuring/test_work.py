"""The counted work of a run is that of the run: its steps, its tokens, and the tasks of its exam."""

from contextlib import chdir
from math import ceil
from pathlib import Path

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import build_corpus
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.evaluation.tasks import problems
from blocklm.evaluation.tasks.run import JUDGED_BY
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import mine
from blocklm.models.pretrained import special_tokens
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.training.data_order import TrainingSamples, training_order
from blocklm.training.measuring.planned import Planned
from blocklm.training.measuring.work import MAX_NEW_TOKENS, TASKS
from tests.support.scripts import script_module


def test_the_tasks_of_the_exam_and_the_length_of_their_answers_are_counted_as_they_are() -> None:
    assert (len(JUDGED_BY), problems.MAX_NEW_TOKENS) == (TASKS, MAX_NEW_TOKENS)


@pytest.mark.parametrize(
    ("packing", "budget"),
    [
        ("false", ["--num_train_epochs", "2"]),
        ("false", ["--target_tokens", "8000"]),
        pytest.param("true", ["--num_train_epochs", "2"], marks=pytest.mark.slow),
    ],
)
def test_steps_and_tokens_are_those_of_the_training(
    tiny_models: dict[str, Path], tiny_recipe: Path, project: Path, tmp_path: Path, packing: str, budget: list[str]
) -> None:
    keys = ["--repo", project, "--model_name_or_path", tiny_models["llama"], "--corpus_dir", tmp_path / "corpora"]
    keys += ["--max_steps", "-1", "--packing", packing, *budget]
    recipe = parse_recipe([str(tiny_recipe), *map(str, keys)])
    planned = Planned.of(recipe, None, None, None)
    with chdir(tmp_path):
        work = script_module("plan.py").count_work(planned)
    tokenizer = planned.source.tokenizer()
    special = special_tokens(tokenizer)
    repositories = open_repositories(recipe.mining)
    prompts = ModelPrompts(prompts_for(special, "auto"), special)
    corpus = build_corpus(recipe, repositories, mine(repositories, recipe.mining), prompts)
    encoder = SampleEncoder(tokenizer, corpus.folder, corpus.places.fill, corpus.report["key"])
    reading = training_order(
        TrainingSamples(corpus.splits["train"]), encoder, recipe.sampling, recipe.run, planned.args
    )
    per_step = planned.plan.micro_batch * planned.plan.gradient_accumulation
    assert work.steps == pytest.approx(ceil(len(reading.order) / per_step), rel=0.1, abs=1)
    assert work.trained == pytest.approx(reading.report["tokens"], rel=0.15)
    assert work.evaluated > 0
    assert work.prompts > work.written / MAX_NEW_TOKENS > 0


def test_an_exam_without_tasks_and_a_run_without_answers_count_none(
    tiny_models: dict[str, Path], tiny_recipe: Path, project: Path, tmp_path: Path
) -> None:
    keys = ["--repo", project, "--model_name_or_path", tiny_models["llama"], "--corpus_dir", tmp_path / "corpora"]
    less = ["--behavioral_items", "0", "--exam", "false", "--eval_strategy", "no"]
    planned = Planned.of(parse_recipe([str(tiny_recipe), *map(str, keys), *less]), None, None, None)
    work = script_module("plan.py").count_work(planned)
    assert (work.evaluated, work.examined, work.prompts, work.written) == (0, 0, 0, 0)
    assert work.steps == planned.args.max_steps

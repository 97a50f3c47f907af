"""`mine.py` shows a repository's funnel, and the prompts that suit a base model."""

from collections.abc import Callable
from pathlib import Path

from tests.support.runs import manifest
from tests.support.scripts import refused, run_in_process


def test_mine_shows_repository_funnel_and_splits(run: Path, workplace: Path) -> None:
    done = run_in_process("mine.py", run / "recipe.yaml", cwd=workplace)
    assert done.returncode == 0, done.stderr
    for word in (
        "35 commits (1 merges) by 1 authors",
        "files per commit: p50 1",
        "vendored",
        "code copied in from elsewhere",
        "validation",
        "corpora/project",
    ):
        assert word in done.stdout


def test_the_base_model_chooses_the_prompts_that_it_predicts_best(
    train: Callable[..., Path], workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    views = ("--views", "{edit: 1, diff: 1, completion: 1, next_edit: 1}")
    asked = (tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["starcoder2"], *views)
    shown = run_in_process("mine.py", *asked, "--probe", cwd=workplace)
    assert shown.returncode == 0, shown.stderr
    for word in ("Prompts that suit the base model", "starcoder2 ", "plain ", "padding in batches of 2:", "packed"):
        assert word in shown.stdout
    corpus = manifest(train("starcoder2", *views, "--template", "probe", "--max_steps", "2"))["corpus"]
    for view in ("edit", "completion", "next_edit"):
        assert set(corpus["probe"][view]) == {"starcoder2", "plain", "files", "bare"}
    assert corpus["prompts"] == {view: next(iter(found)) for view, found in corpus["probe"].items()}
    other = run_in_process("mine.py", *asked, "--template", "qwen-coder", cwd=workplace)
    assert "`template` cannot be 'qwen-coder' for this model" in refused(other)

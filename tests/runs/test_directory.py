"""From its first checkpoint on, a run directory belongs to one recipe and one head of the repository."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.errors import UserError
from blocklm.runs.directory import claim_run_directory


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model_name_or_path: models/any\noutput_dir: {tmp_path}/run\n")
    return parse_recipe([str(path)])


def changed(recipe: Recipe, **keys: Any) -> Recipe:
    return dataclasses.replace(recipe, training=recipe.training | keys)


def test_a_directory_without_work_is_free_for_any_recipe(recipe: Recipe) -> None:
    assert claim_run_directory(recipe, "a" * 40) is None
    assert claim_run_directory(changed(recipe, seed=9), "b" * 40) is None
    assert parse_recipe([str(recipe.output_dir / "recipe.yaml")]).training["seed"] == 9


def test_a_directory_with_a_checkpoint_is_kept_for_its_recipe(recipe: Recipe) -> None:
    claim_run_directory(recipe, "a" * 40)
    (recipe.output_dir / "checkpoint-4").mkdir()
    before = (recipe.output_dir / "recipe.yaml").read_text()
    with pytest.raises(UserError, match="`seed` was None, now 9"):
        claim_run_directory(changed(recipe, seed=9), "a" * 40)
    assert (recipe.output_dir / "recipe.yaml").read_text() == before
    assert claim_run_directory(recipe, "a" * 40) is None, "the same recipe resumes"


def test_a_manifest_whose_work_was_deleted_is_forgotten(recipe: Recipe) -> None:
    claim_run_directory(recipe, "a" * 40)
    left = recipe.output_dir / "manifest.json"
    left.write_text(json.dumps({"status": "interrupted", "training": {"steps": 4}, "repository": {"head": "a" * 40}}))
    assert claim_run_directory(recipe, "a" * 40) is None
    assert not left.exists()


def test_another_head_needs_another_run_directory(recipe: Recipe) -> None:
    claim_run_directory(recipe, "a" * 40)
    (recipe.output_dir / "checkpoint-4").mkdir()
    (recipe.output_dir / "manifest.json").write_text(
        json.dumps({"status": "interrupted", "repository": {"head": "a" * 40}})
    )
    with pytest.raises(UserError, match="was trained on commit aaaaaaaaaaaa, and the repository is now at bbbb"):
        claim_run_directory(recipe, "b" * 40)

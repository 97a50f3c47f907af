"""Every recipe we ship parses strictly, is accepted by the libraries, and names layers that its architecture has."""

import shutil
from pathlib import Path

import pytest
from trl import ModelConfig

from blocklm.model import check_targets, load_base
from blocklm.precision import choose_precision
from blocklm.recipe import parse_recipe
from blocklm.training import sft_config
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "recipes").rglob("*.yaml"))
FAMILY = {"starcoder2": "starcoder2", "domain": "starcoder2", "phi2": "phi", "gpt2": "gpt2", "quickstart": "llama"}


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= set(FAMILY)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_the_libraries_accept_it(path: Path, tmp_path: Path) -> None:
    recipe = parse_recipe([str(path), "--output_dir", str(tmp_path)])
    args = sft_config(recipe, choose_precision(None, None))
    assert not args.push_to_hub
    assert args.max_length <= 1024
    ModelConfig(**recipe.model)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_lora_targets_are_all_the_linear_layers_of_the_architecture(path: Path, tiny_models: dict[str, Path]) -> None:
    import torch
    from transformers.pytorch_utils import Conv1D

    recipe = parse_recipe([str(path)])
    config = ModelConfig(model_name_or_path=str(tiny_models[FAMILY[path.stem]]))
    model = load_base(config, choose_precision(None, False))
    targets = recipe.model["lora_target_modules"]
    check_targets(model, targets)
    linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
    assert set(targets) == linear - {"lm_head"}


def test_a_recipe_of_ones_own_needs_only_a_model(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    shutil.copytree(tiny_models["llama"], tmp_path / "model")
    (tmp_path / "own.yaml").write_text(f"model_name_or_path: {tmp_path / 'model'}\n")
    sft_config(parse_recipe([str(tmp_path / "own.yaml")]), choose_precision(None, None))

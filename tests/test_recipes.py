"""Every recipe we ship parses strictly, is accepted by the libraries, and names layers that its architecture has."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from trl import ModelConfig

from blocklm.config.recipe import parse_recipe
from blocklm.models.adapter import check_targets, lora_config
from blocklm.models.precision import choose_precision
from blocklm.training.planning.known_models import known_config
from blocklm.training.train import sft_config
from tests.conftest import ROOT

LAUNCHERS = sorted((ROOT / "recipes" / "accelerate").glob("*.yaml"))
RECIPES = sorted(set((ROOT / "recipes").rglob("*.yaml")) - set(LAUNCHERS))
# The sizes of each recipe's model; the embedded model has an architecture of its own name.
KNOWN = {
    "qwen2.5-coder-1.5b": "qwen2.5-coder-1.5b", "starcoder2": "starcoder2-3b", "domain": "starcoder2-3b",
    "granite-4.1-3b": "granite-4.1-3b", "phi2": "phi-2", "gpt2": "gpt2-medium", "quickstart": "tiny-llama",
}  # fmt: skip


def test_recipes_are_found() -> None:
    assert {path.stem for path in RECIPES} == set(KNOWN)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_parses_and_the_libraries_accept_it(path: Path, tmp_path: Path) -> None:
    recipe = parse_recipe([str(path), "--output_dir", str(tmp_path)])
    args = sft_config(recipe, choose_precision(None, None))
    assert not args.push_to_hub
    assert args.max_length <= 1024
    ModelConfig(**recipe.model)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_lora_targets_are_all_the_linear_layers_of_the_architecture(path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    recipe = parse_recipe([str(path)])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(known_config(KNOWN[path.stem]))
    targets = recipe.model.get("lora_target_modules")
    if targets is None:  # then all of them
        lora = lora_config(model, ModelConfig(**recipe.model))
        assert lora is not None
        assert lora.target_modules == "all-linear"
        return
    check_targets(model, targets)
    linear = {name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
    assert set(targets) == linear - {"lm_head"}


def test_a_minimal_recipe_needs_only_a_model(tmp_path: Path, tiny_models: dict[str, Path]) -> None:
    shutil.copytree(tiny_models["llama"], tmp_path / "model")
    (tmp_path / "own.yaml").write_text(f"model_name_or_path: {tmp_path / 'model'}\n")
    sft_config(parse_recipe([str(tmp_path / "own.yaml")]), choose_precision(None, None))


@pytest.mark.parametrize("path", LAUNCHERS, ids=lambda path: path.stem)
def test_accelerate_accepts_every_key_of_a_launcher_configuration(path: Path) -> None:
    """It refuses unknown keys only at the top level; a misspelt key further down would be ignored."""
    config = load_config_from_file(str(path))
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed_zero2": "DEEPSPEED"}
    assert {str(config.distributed_type.value)} == {kinds[path.stem]}
    flags = {action.dest for action in launch_command_parser()._actions}
    assert set(config.fsdp_config) | set(config.deepspeed_config) <= flags
    assert config.mixed_precision == "no", "the recipe and the device decide"


def test_the_slurm_example_is_valid_and_names_existing_files() -> None:
    script = ROOT / "recipes" / "accelerate" / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    named = re.findall(r"(?:recipes|scripts)/[\w/.]+\w", script.read_text())
    assert len(named) >= 4
    assert all((ROOT / name).exists() for name in named)

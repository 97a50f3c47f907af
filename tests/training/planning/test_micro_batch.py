"""A run is planned from its model's config alone; what cannot fit is refused before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from trl import ModelConfig, SFTConfig

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.models.precision import Precision, choose_precision
from blocklm.models.pretrained import model_config
from blocklm.training.planning.device import Device, gpu_of
from blocklm.training.planning.known_models import known_config
from blocklm.training.planning.micro_batch import Steps, make_plan
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.train import sft_config
from tests.conftest import ROOT
from tests.support.scripts import run_in_process

HALF = Precision(True, False, torch.float16, "a GPU")
MIB = 1 << 20


def steps_of(name: str, **keys: object) -> tuple[Steps, SFTConfig]:
    args = SFTConfig(bf16=False, use_cpu=True, optim="paged_adamw_8bit", gradient_checkpointing=True, max_length=1024,
                     per_device_train_batch_size=8, gradient_accumulation_steps=2)  # fmt: skip
    given = {"use_peft": True, "load_in_4bit": True, "attn_implementation": "sdpa"} | keys
    return Steps(known_config(name), ModelConfig(**given), args, HALF, gpu=True), args


@pytest.fixture(scope="module")
def medium() -> tuple[Steps, SFTConfig]:
    return steps_of("gpt2-medium")


def device(budget: int) -> Device:
    return Device("a small GPU", True, 2 * budget, budget)


def test_a_micro_batch_of_the_recipe_that_fits_is_kept(medium: tuple[Steps, SFTConfig]) -> None:
    plan = make_plan(*medium, device(24 << 30))
    assert (plan.micro_batch, plan.gradient_accumulation, plan.max_length) == (8, 2, 1024)
    assert "as the recipe says" in plan.reasons[0]


def test_a_micro_batch_that_does_not_fit_becomes_accumulation(medium: tuple[Steps, SFTConfig]) -> None:
    steps, args = medium
    budget = steps.memory(4, 1024).total
    plan = make_plan(steps, args, device(budget))
    assert (plan.micro_batch, plan.gradient_accumulation) == (4, 4)
    assert "instead of 8" in plan.reasons[0]


def test_the_micro_batch_grows_only_where_the_recipe_lets_it(medium: tuple[Steps, SFTConfig]) -> None:
    steps, args = medium
    growing = SFTConfig(**{key: getattr(args, key) for key in ("optim", "gradient_checkpointing", "max_length")},
                        per_device_train_batch_size=8, gradient_accumulation_steps=2, bf16=False, use_cpu=True,
                        auto_find_batch_size=True)  # fmt: skip
    assert make_plan(steps, growing, device(24 << 30)).micro_batch == 16


def test_activations_are_moved_to_the_machine_before_a_row_is_shortened(medium: tuple[Steps, SFTConfig]) -> None:
    steps, args = medium
    offloaded = steps.offloading().memory(1, 1024)
    assert offloaded.total < steps.memory(1, 1024).total
    assert replace(offloaded, activations=0, loss=0) == replace(steps.memory(1, 1024), activations=0, loss=0)
    plan = make_plan(steps, args, device(offloaded.total))
    assert (plan.micro_batch, plan.gradient_accumulation, plan.max_length) == (1, 16, 1024)
    assert plan.activation_offloading
    assert "activation_offloading: otherwise not even one row" in plan.reasons[1]
    assert RunPlan.from_entry(plan.entry() | {"precision": {}}).activation_offloading


def test_a_length_of_which_no_row_fits_is_shortened(medium: tuple[Steps, SFTConfig]) -> None:
    """A CPU has no other memory to move activations to."""
    steps, args = medium
    plan = make_plan(steps, args, replace(device(steps.memory(1, 768).total), gpu=False))
    assert (plan.micro_batch, plan.gradient_accumulation, plan.max_length) == (1, 16, 768)
    assert "length 768 instead of 1024" in plan.reasons[1]
    assert not plan.activation_offloading


def test_a_model_that_cannot_fit_is_refused_with_the_line_to_change() -> None:
    steps, args = steps_of("gpt2-medium", load_in_4bit=False)
    args.max_length = 256
    with pytest.raises(UserError, match=r"needs .* GiB for one row of 256 tokens") as refused:
        make_plan(steps, args, device(100 * MIB))
    assert "load_in_4bit" in refused.value.hint


def test_a_larger_budget_never_gets_a_smaller_batch(medium: tuple[Steps, SFTConfig]) -> None:
    steps, _ = medium
    found = [steps.largest_batch(1024, range(1, 9), budget * 256 * MIB) or 0 for budget in range(1, 24)]
    assert found == sorted(found)
    assert 0 in found
    assert 8 in found


def test_starcoder2_at_2048_tokens_fits_a_card_of_6_gib() -> None:
    steps, _ = steps_of("starcoder2-3b", lora_r=16, use_bnb_nested_quant=True)
    assert steps.memory(1, 2048).total <= 5.5 * (1 << 30)
    assert steps.memory(1, 2048).total <= gpu_of("6GiB").budget


def test_memory_of_all_layers_follows_from_two_depths() -> None:
    """Two depths give the same bytes as all layers."""
    steps, _ = steps_of("gpt2-medium")
    all_layers, _ = steps_of("gpt2-medium")
    all_layers._counted = ()
    assert steps._counted
    assert steps.memory(3, 384) == all_layers.memory(3, 384)


def test_an_invalid_size_is_refused() -> None:
    assert gpu_of("6GiB").total == 6 << 30
    with pytest.raises(UserError, match="is no size"):
        gpu_of("six")


def test_plan_shows_parts_and_choice(tiny_models: dict[str, Path], tiny_recipe: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = [
        tiny_recipe,
        "--model_name_or_path",
        tiny_models["starcoder2"],
        "--gpu_memory",
        "6GiB",
    ]
    done = run_in_process("plan.py", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for word in (
        "a GPU with 6GiB: 5.06 GiB for tensors",
        "activations",
        "micro-batch 2, accumulation 1",
        "512: 32, 1024: 32",
    ):
        assert word in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b"),
        ("starcoder2", "starcoder2-3b"),
        ("granite-4.1-3b", "granite-4.1-3b"),
        ("phi2", "phi-2"),
        ("gpt2", "gpt2-medium"),
    ],
)
def test_a_shipped_recipe_fits_6_gib_at_its_length(recipe: str, name: str) -> None:
    """The real sizes of its model are counted; the micro-batch grows, and the effective batch does not change."""
    parsed = parse_recipe([str(ROOT / "recipes" / f"{recipe}.yaml")])
    args = sft_config(parsed, choose_precision(None, None))
    steps = Steps(known_config(name), model_config(parsed.model), args, HALF, gpu=True)
    plan = make_plan(steps, args, gpu_of("6GiB"))
    assert plan.max_length == 1024
    assert plan.micro_batch > args.per_device_train_batch_size
    assert plan.micro_batch * plan.gradient_accumulation == 16

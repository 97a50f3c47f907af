"""The largest steps of a recipe run for real with random weights, and what they tell about shapes that did not run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.errors import UserError
from blocklm.models.attention import KERNELS, only_kernel
from blocklm.models.loading import load_base
from blocklm.models.source import ModelSource
from blocklm.training.measuring.measure import Trial, full_rows, measure
from blocklm.training.measuring.random_base import byte_tokenizer, random_base
from blocklm.training.measuring.tables import gpu_row, measurement_lines, work_lines
from blocklm.training.measuring.verdict import measure_or_refuse, verdict
from blocklm.training.measuring.work import Work
from blocklm.training.planning.device import Device
from blocklm.training.planning.known_models import SIZES, known_config
from blocklm.training.planning.measurement import (
    Calibration,
    Measurement,
    keep,
    measurements_of,
    read_measurements,
)
from blocklm.training.planning.micro_batch import Plan, Steps
from blocklm.training.planning.planner import suitable_optimizer
from blocklm.training.train import sft_config
from tests.conftest import ROOT
from tests.support.memory import memory_left
from tests.support.scripts import script_module

# Every shipped recipe, and its model made small: a plan must hold whatever the architecture.
RECIPES = {
    "qwen2.5-coder-1.5b": "qwen2.5-coder-1.5b", "granite-4.1-3b": "granite-4.1-3b", "starcoder2": "starcoder2-3b",
    "domain": "starcoder2-3b", "phi2": "phi-2", "gpt2": "gpt2-medium", "quickstart": "tiny-llama",
}  # fmt: skip
SMALL = {
    "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 4096, "max_position_embeddings": 1024,
}  # fmt: skip
CPU = Device("CPU", False, 1 << 40, 1 << 40)


def small(name: str) -> PretrainedConfig:
    """The architecture of a well-known model in small."""
    architecture, sizes = SIZES[name]
    if architecture == "gpt2":
        return AutoConfig.for_model("gpt2", n_embd=256, n_layer=3, n_head=4, n_positions=1024, vocab_size=4096)
    named = {key: value for key, value in SMALL.items() if key in sizes}
    if architecture == "phi":
        named |= {"intermediate_size": 1024}
    return AutoConfig.for_model(architecture, **{**sizes, **named})


def recipe_of(stem: str, corpora: Path, *keys: str) -> Recipe:
    given = ["--corpus_dir", str(corpora), "--max_length", "512", "--exam_context_tokens", "128", *keys]
    given += ["--behavioral_items", "1", "--behavioral_max_new_tokens", "8"]
    return parse_recipe([str(ROOT / "recipes" / f"{stem}.yaml"), *given])


def steps_of(recipe: Recipe, config: PretrainedConfig) -> tuple[Steps, Any, ModelSource]:
    source = ModelSource.from_keys(recipe.model, recipe.training)
    args = sft_config(recipe, source.precision)
    args.optim = suitable_optimizer(args)
    return Steps(config, source.config, args, source.precision, gpu=False), args, source


def trial_of(recipe: Recipe, config: PretrainedConfig, batch: int, length: int, kernel: str | None = None) -> Trial:
    steps, _, source = steps_of(recipe, config)
    plan = Plan(batch, 2, length, steps.memory(batch, length), CPU, ())
    return Trial(recipe, config, source, plan, kernel)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trial, Measurement]:
    """The recipe that we recommend for 6 GB, its model in small."""
    recipe = recipe_of("qwen2.5-coder-1.5b", tmp_path_factory.mktemp("corpora"))
    trial = trial_of(recipe, small("qwen2.5-coder-1.5b"), 1, 192)
    return trial, measure(trial)


@pytest.mark.slow
@pytest.mark.parametrize("stem", RECIPES)
def test_the_plan_of_a_recipe_is_within_ten_percent_of_what_is_measured(stem: str, tmp_path: Path) -> None:
    trial = trial_of(recipe_of(stem, tmp_path), small(RECIPES[stem]), 1, 512)
    found = measure(trial)
    print(
        f"{stem}: {100 * (found.planned.total / found.measured.total - 1):+.1f} %", *measurement_lines(found), sep="\n"
    )
    assert found.planned.total == pytest.approx(found.measured.total, rel=0.10)
    assert found.planned.weights == pytest.approx(found.measured.weights, rel=0.02)
    assert min(found.evaluation, found.exam, found.answers) > found.measured.weights
    assert found.packed == (trial.recipe.training.get("packing") == "auto")


def test_the_plan_of_the_recommended_recipe_is_within_ten_percent(measured: tuple[Trial, Measurement]) -> None:
    _, found = measured
    assert found.planned.total == pytest.approx(found.measured.total, rel=0.10)
    assert found.packed


@pytest.mark.slow
def test_one_measured_shape_corrects_the_plans_of_others(measured: tuple[Trial, Measurement]) -> None:
    """Neither batch nor length of the shape that is planned was measured before."""
    trial, found = measured
    steps, _, _ = steps_of(trial.recipe, trial.config)
    peak = measure(trial_of(trial.recipe, trial.config, 2, 320)).measured.total
    plain, corrected = (
        one.memory(2, 320).total / peak - 1 for one in (steps, steps.calibrated(Calibration.of(found)))
    )
    print(f"planned {100 * plain:+.1f} %, corrected {100 * corrected:+.1f} %")
    assert corrected == pytest.approx(0, abs=0.10)


def test_a_correction_scales_each_part_and_leaves_the_counted_steps_alone(measured: tuple[Trial, Measurement]) -> None:
    trial, found = measured
    twice = replace(found, measured=replace(found.planned, activations=2 * found.planned.activations))
    steps, _, _ = steps_of(trial.recipe, trial.config)
    corrected = steps.calibrated(Calibration.of(twice))
    before, after = steps.memory(2, 256), corrected.memory(2, 256)
    assert after.activations == 2 * before.activations
    assert replace(after, activations=0) == replace(before, activations=0)
    plan = Plan(2, 1, 256, after, CPU, ())
    assert corrected.uncorrected(plan).memory == steps.memory(2, 256) == before


def test_the_random_base_has_the_layers_and_dtypes_of_a_loaded_one(tiny_models: dict[str, Path]) -> None:
    for name, keys in (("starcoder2", {"load_in_4bit": True}), ("gpt2", {"load_in_8bit": True}), ("llama", {})):
        source = ModelSource.from_keys({"model_name_or_path": str(tiny_models[name]), "use_peft": True, **keys}, {})
        loaded, made = (
            load_base(source.config, source.precision),
            random_base(source.architecture(), source.config, source.precision),
        )
        layers = [(path, type(module)) for path, module in loaded.named_modules()]
        assert [(path, type(module)) for path, module in made.named_modules()] == layers
        weights = {path: (weight.shape, weight.dtype) for path, weight in loaded.state_dict().items()}
        assert {path: (weight.shape, weight.dtype) for path, weight in made.state_dict().items()} == weights
        assert made(input_ids=torch.arange(5)[None]).logits.isfinite().all()


def test_every_byte_is_a_token_of_the_byte_tokenizer() -> None:
    tokenizer = byte_tokenizer()
    text = "fn größe() -> u8 {\n\t0x00\n}\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer(text)["input_ids"]) == len(text.encode())


def test_packed_rows_are_full_and_hold_several_documents() -> None:
    rows = full_rows(2, 10, 4)
    assert rows["seq_lengths"][:] == [[2, 2, 2, 4]] * 2
    assert "seq_lengths" not in full_rows(2, 10, 1).column_names


def test_memory_that_runs_out_ends_with_the_line_to_change(measured: tuple[Trial, Measurement]) -> None:
    trial, _ = measured
    _, args, _ = steps_of(trial.recipe, trial.config)
    large = trial_of(trial.recipe, trial.config, 16, 512)
    with memory_left(150 << 20), pytest.raises(UserError, match=r"memory ran out while 16 x 512 tokens") as refused:
        measure_or_refuse(large, args)
    assert "`per_device_train_batch_size: 8` and `gradient_accumulation_steps: 2`" in refused.value.hint


def test_a_peak_beyond_the_limit_ends_with_the_line_to_change(measured: tuple[Trial, Measurement]) -> None:
    trial, found = measured
    _, args, _ = steps_of(trial.recipe, trial.config)
    assert verdict(found, replace(trial, limit=found.peak), args, CPU).startswith("fits: ")
    with pytest.raises(UserError, match=r"does not fit: the largest step took") as refused:
        verdict(found, replace(trial, limit=found.measured.total - 1), args, CPU)
    assert refused.value.hint.startswith("set `max_length: ") or refused.value.hint.startswith("take a smaller")
    exam = replace(found, exam=10 * found.peak)
    with pytest.raises(UserError) as of_exam:
        verdict(exam, replace(trial, limit=2 * found.measured.total), args, CPU)
    assert "exam_context_tokens" in of_exam.value.hint


def test_a_measurement_is_kept_by_shape_and_read_back(measured: tuple[Trial, Measurement], tmp_path: Path) -> None:
    trial, found = measured
    path = measurements_of(trial.recipe, trial.config, trial.source.precision, found.device)
    assert path == measurements_of(trial.recipe, trial.config, trial.source.precision, found.device)
    assert path != measurements_of(trial.recipe, trial.config, trial.source.precision, "another device")
    other = recipe_of("qwen2.5-coder-1.5b", tmp_path, "--lora_r", "8", "--corpus_dir", trial.recipe.mining.corpus_dir)
    assert path != measurements_of(other, trial.config, trial.source.precision, found.device)
    longer = recipe_of("qwen2.5-coder-1.5b", tmp_path, "--max_length", "64")
    assert measurements_of(longer, trial.config, trial.source.precision, found.device).name == path.name
    file = tmp_path / "kept" / path.name
    keep(file, found)
    keep(file, replace(found, length=2 * found.length))
    keep(file, replace(found, device="measured again"))
    assert read_measurements(file) == [
        replace(found, length=2 * found.length), replace(found, device="measured again")
    ]  # fmt: skip
    file.write_text("[{}]")
    assert read_measurements(file) == []


def test_the_tables_show_every_part_and_the_hours(measured: tuple[Trial, Measurement]) -> None:
    _, found = measured
    shown = "\n".join(measurement_lines(found))
    for part in ("weights", "activations", "a train step", "an exam batch", "tokens a second in training"):
        assert part in shown
    row = gpu_row(replace(found, kernel="efficient", limit=11 << 29), "qwen2.5-coder-1.5b")
    assert row.count("|") == 9
    assert "capped to 5.50 GiB" in row
    assert "kernel efficient" in row
    work = Work(10, 2560, 100, 200, 300, 400)
    hours = work.seconds(found)
    assert hours["training"] == pytest.approx(10 * found.step_seconds * 2560 / (10 * 2 * 192))
    assert "at most" in "\n".join(work_lines(work, found))
    assert "--measure" in "\n".join(work_lines(work, None))


def test_the_command_line_names_the_kernels_that_can_be_asserted() -> None:
    assert tuple(KERNELS) == script_module("plan.py").KERNELS, "listed there without torch"


def test_a_kernel_that_cannot_run_is_refused() -> None:
    query = torch.ones(1, 1, 4, 8)
    with only_kernel(None), only_kernel("math"):
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    with pytest.raises(UserError, match="the attention kernel `cudnn` cannot run"), only_kernel("cudnn"):
        torch.nn.functional.scaled_dot_product_attention(query, query, query)


def test_a_model_that_is_not_known_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="knows no `gpt-5`") as refused:
        known_config("gpt-5")
    assert "starcoder2-3b" in refused.value.hint

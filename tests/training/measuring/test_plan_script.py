"""`plan.py --measure` from the command line: it prints, keeps what it measured, and a later plan uses it."""

from contextlib import chdir
from pathlib import Path

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.training.measuring.planned import Planned
from blocklm.training.planning.device import gpu_of
from tests.conftest import ROOT
from tests.support.scripts import refused, run_in_process


def given(recipe: Path, model: Path, *more: str | Path) -> list[str | Path]:
    small = ["--max_length", "256", "--behavioral_items", "2", "--behavioral_max_new_tokens", "8"]
    return [
        recipe,
        "--model_name_or_path",
        model,
        "--load_in_4bit",
        "true",
        "--exam_context_tokens",
        "64",
        *small,
        *more,
    ]


def test_a_measured_recipe_fits_and_its_plan_is_corrected_later(
    tiny_models: dict[str, Path], tiny_recipe: Path, project: Path, tmp_path: Path
) -> None:
    arguments = given(tiny_recipe, tiny_models["starcoder2"], "--repo", project)
    done = run_in_process("plan.py", *arguments, "--measure", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, hours, verdict = done.stdout.splitlines()
    assert verdict.startswith("fits: the largest step took")
    assert hours.startswith("at most ")
    for part in ("training", "validation", "exam", "answers"):
        assert part in hours
    assert "Error of plan" in done.stdout
    assert "| kernel of PyTorch's choice, " in done.stdout
    assert len(list((tmp_path / "corpora" / ".measurements").iterdir())) == 1
    with chdir(tmp_path):
        later = Planned.of(parse_recipe([*map(str, arguments), "--max_length", "128"]), None, None, None)
    assert later.plan.reasons[-1].startswith("corrected by what was measured: 2 x 256 tokens")
    assert later.measurement is not None, "from which hours follow without another"


@pytest.mark.slow
def test_hours_are_not_made_up_without_a_measurement(
    tiny_models: dict[str, Path], tiny_recipe: Path, project: Path, tmp_path: Path
) -> None:
    done = run_in_process("plan.py", *given(tiny_recipe, tiny_models["llama"], "--repo", project), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, gain, work, last = done.stdout.splitlines()
    assert "tokens of training give is not measured for" in gain
    assert "tokens of training" in work
    assert last == "hours follow from these once `--measure` has measured this device"


def test_a_limit_that_no_row_fits_is_refused_with_the_line_to_change(
    tiny_models: dict[str, Path], tiny_recipe: Path, tmp_path: Path
) -> None:
    arguments = given(tiny_recipe, tiny_models["llama"], "--measure", "--memory_limit", "0.1MiB")
    assert "take a smaller `model_name_or_path`" in refused(run_in_process("plan.py", *arguments, cwd=tmp_path))


def test_another_device_cannot_be_measured(tiny_models: dict[str, Path], tiny_recipe: Path, tmp_path: Path) -> None:
    arguments = given(tiny_recipe, tiny_models["llama"], "--measure", "--gpu_memory", "6GiB")
    assert "`--memory_limit`" in refused(run_in_process("plan.py", *arguments, cwd=tmp_path))


def test_a_well_known_model_is_planned_without_any_file_of_it(tmp_path: Path) -> None:
    path = str(ROOT / "recipes" / "gpt2.yaml")
    planned = Planned.of(parse_recipe([path]), "gpt2-medium", gpu_of("6GiB"), None)
    assert planned.plan.max_length == 1024
    assert planned.measurement is None
    assert "knows no `gpt2`" in refused(run_in_process("plan.py", path, "--size", "gpt2", cwd=tmp_path))
    longer = run_in_process("plan.py", path, "--size", "gpt2-medium", "--max_length", "2048", cwd=tmp_path)
    assert "`max_length` 2048 is more than the 1024 positions" in refused(longer)

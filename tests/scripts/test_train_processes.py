"""Several processes train as one does, each with the full model or with its part."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.support.runs import manifest, weights
from tests.support.scripts import run_in_process, script_environment
from tests.support.shared import build_once

DDP, FSDP2 = (str(ROOT / "recipes" / "accelerate" / name) for name in ("ddp.yaml", "fsdp2.yaml"))
# Two epochs of 15 samples, four to a step.
EPOCHS = ["--lora_dropout", "0", "--load_in_4bit", "--max_train_samples", "15", "--max_steps", "-1", "--num_train_epochs", "2",
          "--save_steps", "2", "--eval_strategy", "no", "--exam_items", "8"]  # fmt: skip


@pytest.mark.parametrize(("flags", "processes"), [(["--config_file", DDP], 2), (["--cpu"], 1)])
def test_several_processes_give_one_manifest_and_one_adapter(
    tmp_path: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
    flags: list[str],
    processes: int,
) -> None:
    """Without a GPU, accelerate's DDP uses gloo; its `--cpu` would always start one process."""
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", *flags, "--num_processes", "2",
        str(ROOT / "scripts" / "train.py"), str(tiny_recipe), "--repo", str(project), "--output_dir", "runs/two",
        "--model_name_or_path", str(tiny_models["starcoder2"]), "--load_in_4bit",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=script_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    content = manifest(tmp_path / "runs" / "two")
    assert content["status"] == "complete"
    assert content["training"]["processes"] == processes
    answers = [json.loads(line) for line in (tmp_path / "runs" / "two" / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in answers] == [step for step in (0, 4, 8, 12) for _ in range(3)]
    assert len({(row["step"], row["item"]) for row in answers}) == 12
    assert done.stdout.count("later commits (") == 1, "one summary"
    assert len(list((tmp_path / "runs").rglob("adapter_model.safetensors"))) == 3, "the run's and two checkpoints'"
    built = Counter(path.parent.name.partition("-")[0] for path in (tmp_path / "corpora").rglob("corpus.json"))
    assert built.pop("tokens") in (2, 3), "validation and training, the latter again if a drawn sample cannot be read"
    assert built == {"changes": 1, "curated": 1, "files": 1, "samples": 1}, "two processes build each once"


@pytest.fixture(scope="session")
def alone(
    tmp_path_factory: pytest.TempPathFactory,
    corpora: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
) -> Path:
    """Train in one process, with accumulation 2, what the tests below train in two with accumulation 1."""
    given: list[str | Path] = [tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["llama"], *EPOCHS]

    def train(folder: Path) -> None:
        (folder / "corpora").symlink_to(corpora)
        done = run_in_process(
            "train.py", *given, "--gradient_accumulation_steps", "2", "--output_dir", folder / "run", cwd=folder
        )
        assert done.returncode == 0, done.stderr

    return build_once(tmp_path_factory, "alone", train) / "run"


def assert_the_same_training(run: Path, alone: Path) -> None:
    """Equal losses at every step, within 1e-4, and equal adapters, within 1e-4 of each weight."""
    ours, theirs = (manifest(path)["training"] for path in (run, alone))
    assert (ours["processes"], theirs["processes"]) == (2, 1)
    assert len(ours["loss_history"]) == len(theirs["loss_history"]) == 8
    for own, other in zip(ours["loss_history"], theirs["loss_history"], strict=True):
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-4), own["step"]
    assert ours["tokens_seen"] == theirs["tokens_seen"]
    adapter, expected = (load_file(path / "adapter_model.safetensors") for path in (run, alone))
    assert adapter.keys() == expected.keys()
    assert max(float((adapter[name] - expected[name]).abs().max()) for name in expected) < 1e-4


def launched(
    config: str, script: Path, recipe: Path, project: Path, model: Path, run: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    """Train with two processes to the end."""
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", "--config_file", config, str(script), str(recipe),
        "--repo", str(project), "--model_name_or_path", str(model), "--output_dir", str(run), *EPOCHS, *more,
    ]  # fmt: skip
    environment = script_environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=run.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_train_as_one_does_and_resume_in_the_second_epoch_where_they_were(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, alone: Path
) -> None:
    """Accelerate's wrapper hides the sampler from `set_epoch`, so that epoch 1 could be read again."""
    run = tmp_path / "run"
    without = ("--exam", "false", "--behavioral_items", "0")
    arguments = (DDP, ROOT / "scripts" / "train.py", tiny_recipe, project, tiny_models["llama"], run, *without)
    launched(*arguments)
    assert_the_same_training(run, alone)
    expected, last = weights(run), run / "checkpoint-8"
    for gone in (last, run / "adapter_model.safetensors", run / "manifest.json"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    launched(*arguments)
    assert manifest(run)["training"]["resumed_from"] == 6
    assert weights(run) == expected


def test_a_model_split_over_two_processes_trains_as_an_unsplit_one(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, alone: Path
) -> None:
    """FSDP2 splits a 4-bit model with its quantised weights; the exam needs the unsplit model."""
    run = tmp_path / "run"
    script = ROOT / "tests" / "support" / "sharded_on_cpu.py"
    done = launched(FSDP2, script, tiny_recipe, project, tiny_models["llama"], run)
    assert (run / "checkpoint-8" / "pytorch_model_fsdp.bin").is_file()
    assert "Excluding from FSDP2 sharding" not in done.stderr
    assert_the_same_training(run, alone)
    assert manifest(run)["exam"]["tuned"] == pytest.approx(manifest(alone)["exam"]["tuned"], rel=1e-4)

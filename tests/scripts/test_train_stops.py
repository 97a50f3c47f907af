"""After a signal or a full disk, the same command ends training with the same result."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.runs import manifest, weights
from tests.support.scripts import Running, run_in_process, script_environment

DDP = str(ROOT / "recipes" / "accelerate" / "ddp.yaml")
PHASES = "{early: {share: 0.5, span: [0.0, 0.6]}, late: {share: 0.5, span: [0.4, 1.0], max_length: 256}}"


SHORT = ["--max_steps", "12", "--save_steps", "4", "--eval_steps", "4", "--logging_steps", "1",
         "--gradient_accumulation_steps", "1", "--max_length", "512", "--exam", "false", "--max_validation_samples", "4",
         "--behavioral_items", "4", "--behavioral_max_new_tokens", "16"]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "family", "stop", "code", "more"),
    [
        ("starcoder2", "starcoder2", signal.SIGINT, 130, ["--phases", PHASES]),
        ("phi2", "phi", signal.SIGKILL, -9, ["--packing", "true"]),
        ("gpt2", "gpt2", signal.SIGTERM, 143, []),
    ],
)
def test_a_shipped_recipe_trains_stops_and_resumes_to_the_same_adapter(
    workplace: Path, project: Path, tiny_models: dict[str, Path], start: Callable[[list[str]], Running],
    recipe: str, family: str, stop: signal.Signals, code: int, more: list[str],
) -> None:  # fmt: skip
    """Quantised with the real bitsandbytes if the recipe says so; with all views, in phases, or packed."""
    common = [str(ROOT / "recipes" / f"{recipe}.yaml"), "--repo", str(project), *SHORT, *more]
    common += ["--model_name_or_path", str(tiny_models[family])]
    uninterrupted, stopped = workplace / "runs" / recipe, workplace / "runs" / f"{recipe}-stopped"
    done = run_in_process("train.py", *common, "--output_dir", uninterrupted, cwd=workplace)
    assert done.returncode == 0, done.stderr

    arguments = [*common, "--output_dir", str(stopped)]
    running = start(arguments)
    running.wait_for(stopped / "checkpoint-4" / "trainer_state.json")
    running.signal(stop)
    ended, output = running.end()
    assert ended == code, output
    assert "Traceback" not in output
    assert manifest(stopped)["status"] == "interrupted"
    if stop != signal.SIGKILL:
        assert "interrupted in its train phase" in (stopped / "report.html").read_text()

    done = run_in_process("train.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    content = manifest(stopped)
    assert content["status"] == "complete"
    assert content["training"]["resumed_from"] >= 4
    assert content["training"]["steps"] == 12
    assert content["training"]["optim"].startswith("adamw_torch"), "there is no GPU whose memory 8 bit would save"
    assert any("instead of paged_adamw_8bit" in why for why in content["plan"]["reasons"]) == (recipe != "gpt2")
    assert weights(stopped) == weights(uninterrupted)
    assert (stopped / "samples.jsonl").read_bytes() == (uninterrupted / "samples.jsonl").read_bytes()
    assert any(
        value for name, tensor in weights(uninterrupted).items() if "lora_B" in name for row in tensor for value in row
    )


@pytest.mark.parametrize(
    ("signum", "config"), [(signal.SIGINT, str(ROOT / "accelerate_config.yaml")), (signal.SIGTERM, DDP)]
)
def test_a_signal_to_both_launcher_and_training_ends_in_a_checkpoint(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path, signum: int, config: str
) -> None:
    """Ctrl-C and Slurm signal both: the launcher ends, and the training still saves and reports it."""
    run = tmp_path / "run"
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--config_file",
        config, str(ROOT / "scripts" / "train.py"), str(tiny_recipe), "--repo", str(project),
        "--model_name_or_path", str(tiny_models["llama"]), "--output_dir", str(run), "--max_steps", "400",
    ]  # fmt: skip
    launcher = subprocess.Popen(
        command, cwd=tmp_path, env=script_environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until((run / "checkpoint-4" / "trainer_state.json").exists)
        os.killpg(launcher.pid, signum)
        wait_until(lambda: manifest(run)["finished_at"] is not None)
        assert launcher.wait(timeout=60) != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(launcher.pid, signal.SIGKILL)
    assert manifest(run)["status"] == "interrupted"
    assert max(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*")) > 4


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("did not happen within 300 seconds")


def test_a_full_disk_leaves_the_last_checkpoint_intact(
    workplace: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
    start: Callable[[list[str]], Running],
) -> None:
    """From the second checkpoint on, the kernel refuses larger files, as on a full disk."""
    run = workplace / "runs" / "disk"
    arguments = [str(tiny_recipe), "--repo", str(project), "--model_name_or_path", str(tiny_models["llama"])]
    arguments += ["--output_dir", str(run), "--max_steps", "40", "--exam", "false"]
    running = start(arguments)
    running.wait_for(run / "checkpoint-4" / "trainer_state.json")
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    code, output = running.end()
    assert code == 2, output
    assert "error: the disk is full" in output
    assert "Traceback" not in output
    done = run_in_process("train.py", *arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert manifest(run)["training"]["resumed_from"] >= 4

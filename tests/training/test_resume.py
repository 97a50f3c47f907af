"""Wherever a run is killed, the same command ends with the result of an uninterrupted run."""

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from blocklm.interrupts import Interrupts
from blocklm.runs.checkpoints import latest_checkpoint
from blocklm.training.train import train
from tests.support.runs import manifest, weights
from tests.support.scripts import Running, run_in_process
from tests.support.trainers import tiny_trainer

# Early stopping with all checkpoints kept: the best evaluation is that of step 12.
STOPS_EARLY = {
    "early_stopping_patience": 2, "max_steps": 40, "lr_scheduler_type": "constant", "save_steps": 2, "save_total_limit": 20,
}  # fmt: skip


def trained(model: Path, run: Path, keys: dict[str, Any]) -> dict[str, Any]:
    """Train or resume; return the manifest's entry without the keys that differ after a resume."""
    training = train(tiny_trainer(model, run, keys), Interrupts())
    return {key: value for key, value in training.items() if key not in ("resumed_from", "tokens_per_second")}


def steps(run: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in run.glob("checkpoint-*"))


@pytest.fixture(scope="module")
def stopped_early(
    tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("resume") / "early"
    training = trained(tiny_models["llama"], run, STOPS_EARLY)
    assert (training["best_step"], training["steps"], training["stopped_by"]) == (12, 16, "early_stopping")
    return run, training


def test_early_stopping_leaves_the_best_adapter(
    stopped_early: tuple[Path, dict[str, Any]], tiny_models: dict[str, Path]
) -> None:
    """It is in the run directory and in `best/`, and both can be loaded."""
    run, _ = stopped_early
    assert weights(run) == weights(run / "best") == weights(run / "checkpoint-12") != weights(run / "checkpoint-16")
    assert {path.name for path in (run / "best").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    base = AutoModelForCausalLM.from_pretrained(tiny_models["llama"])
    tuned = PeftModel.from_pretrained(base, run / "best").state_dict()
    saved = load_file(run / "adapter_model.safetensors")
    assert all(torch.equal(tuned[name.replace(".weight", ".default.weight")], saved[name]) for name in saved)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(16, id="killed in the final save"),
        pytest.param(14, id="one evaluation before patience ends"),
        pytest.param(6, id="before the best"),
    ],
)
def test_early_stopping_resumes_to_the_same_end(
    stopped_early: tuple[Path, dict[str, Any]], tiny_models: dict[str, Path], tmp_path: Path, last: int
) -> None:
    """The directory was moved, and a kill has damaged its adapter and `best/`."""
    finished, training = stopped_early
    run = tmp_path / "moved"
    shutil.copytree(finished, run)
    shutil.rmtree(run / "best")
    adapter = run / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:1000])
    for step in steps(run):
        state = json.loads((run / f"checkpoint-{step}" / "trainer_state.json").read_text())
        state["best_model_checkpoint"] = str(tmp_path / "gone" / f"checkpoint-{state['best_global_step']}")
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
        if step > last:
            shutil.rmtree(run / f"checkpoint-{step}")
    assert trained(tiny_models["llama"], run, STOPS_EARLY) == training
    assert weights(run) == weights(run / "best") == weights(finished)


def test_the_best_checkpoint_outlives_the_limit(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """This holds if only the evaluation saves at its step, after a resume, and without `load_best_model_at_end`."""
    keys = STOPS_EARLY | {"save_steps": 8, "save_total_limit": 1, "load_best_model_at_end": False}
    run = tmp_path / "run"
    trained(tiny_models["llama"], run, keys | {"max_steps": 14})
    assert steps(run) == [12, 14]
    resumed = trained(tiny_models["llama"], run, keys)
    assert (resumed["best_step"], resumed["steps"]) == (12, 16)
    assert steps(run) == [12, 16]
    assert weights(run / "best") == weights(run / "checkpoint-12") != weights(run)


def test_the_best_of_full_fine_tuning_is_a_full_model(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    keys = {"use_peft": False, "learning_rate": 1e-3, "load_best_model_at_end": True, "max_steps": 6}
    trained(tiny_models["gpt2"], run, keys)
    saved, best = load_file(run / "model.safetensors"), AutoModelForCausalLM.from_pretrained(run / "best").state_dict()
    assert all(torch.equal(best[name], saved[name]) for name in saved)


def test_no_sample_is_read_beyond_a_schedule_that_ends_within_an_epoch(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    """After a kill between the last checkpoint and the manifest, the state looks as if the epoch had steps left."""
    run, keys = tmp_path / "run", {"max_steps": -1, "num_train_epochs": 1.5, "eval_strategy": "no", "save_steps": 8}
    uninterrupted = trained(tiny_models["llama"], run, keys)
    assert uninterrupted["steps"] == 24
    expected = weights(run)
    (run / "adapter_model.safetensors").unlink()
    assert trained(tiny_models["llama"], run, keys) == uninterrupted
    assert weights(run) == expected


class Killed:
    """A training command that is killed at random moments, again and again.

    Args:
        start: starts the command.
        run: its run directory, with a checkpoint every four steps.
        seed: of the moments.
    """

    def __init__(self, start: Callable[[], Running], run: Path, seed: int) -> None:
        self.start, self.run, self.random = start, run, random.Random(seed)

    def once(self) -> str:
        """Kill the training while it starts, trains or saves; return the moment and what it left."""
        moment = self.random.choice(("starting", "training", "training", "saving", "saving"))
        goal = max(steps(self.run), default=0) + 4 * self.random.randint(0, 4)
        running = self.start()
        if moment == "starting":
            time.sleep(self.random.uniform(0, 4))
        else:
            while max(steps(self.run), default=0) < goal + 4 * (moment == "saving"):
                assert running.is_running(), running.end()[1]
                time.sleep(0.001)
            time.sleep(self.random.uniform(0, 0.03 if moment == "saving" else 0.6))
        running.signal(signal.SIGKILL)
        code, output = running.end()
        assert code == -9, output
        complete, newest = latest_checkpoint(self.run), max(steps(self.run), default=0)
        torn = complete is None or complete.name != f"checkpoint-{newest}"
        return f"while {moment}: step {newest}{' torn' if torn and newest else ''}"


@pytest.mark.slow
def test_a_dozen_random_kills_do_not_change_the_result(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    """`kill -9` at random moments in one training run, also while checkpoints are written; two to three minutes.

    bash scripts/test.sh -m slow -n 0 -s -k dozen
    """
    arguments = [
        str(tiny_recipe), "--repo", str(project), "--model_name_or_path", str(tiny_models["llama"]), "--exam", "false",
        "--max_steps", "300", "--packing", "true", "--gradient_accumulation_steps", "2", "--load_best_model_at_end",
        "--max_length", "256", "--gradient_checkpointing", "false", "--behavioral_max_new_tokens", "8",
    ]  # fmt: skip
    done = run_in_process("train.py", *arguments, "--output_dir", tmp_path / "uninterrupted", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run, began = tmp_path / "killed", time.monotonic()
    killed = Killed(lambda: Running([*arguments, "--output_dir", str(run)], tmp_path), run, seed=20)
    for number in range(12):
        print(f"kill {number + 1:2} {killed.once()}", flush=True)
    done = run_in_process("train.py", *arguments, "--output_dir", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    print(f"resumed from {manifest(run)['training']['resumed_from']}, {time.monotonic() - began:.0f} s in all")
    expected = manifest(tmp_path / "uninterrupted")["training"]
    assert {**manifest(run)["training"], "resumed_from": None} == {**expected, "resumed_from": None} | {
        "tokens_per_second": None
    }
    assert (run / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "uninterrupted" / "adapter_model.safetensors"
    ).read_bytes()
    assert (run / "best" / "adapter_model.safetensors").read_bytes() == (
        run / "adapter_model.safetensors"
    ).read_bytes()

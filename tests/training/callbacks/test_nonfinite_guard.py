"""A run with numbers that are not finite ends, and leaves on the disk only what was saved before."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.runs.checkpoints import latest_checkpoint
from blocklm.training.callbacks.nonfinite_guard import SKIPPED_IN_A_ROW, NonFiniteCallback, check_weights
from blocklm.training.train import train
from tests.conftest import ROOT
from tests.support.runs import manifest
from tests.support.scripts import script_environment
from tests.support.trainers import tiny_trainer

# Multiplies the weights by -9 at each step, so that they overflow between steps 8 and 12; loss and gradients before
# that are useless, but finite.
DIVERGES = {"weight_decay": 1e3, "lr_scheduler_type": "constant"}


def is_finite(checkpoint: Path) -> bool:
    return all(
        bool(weight.isfinite().all()) for weight in load_file(checkpoint / "adapter_model.safetensors").values()
    )


@pytest.mark.parametrize("logging_steps", [1, 100])
def test_a_diverged_model_is_never_saved(tiny_models: dict[str, Path], tmp_path: Path, logging_steps: int) -> None:
    """This holds however rarely the loss is logged, also for steps between two logs."""
    run = tmp_path / "run"
    trainer = tiny_trainer(tiny_models["llama"], run, DIVERGES | {"max_steps": 60, "logging_steps": logging_steps})
    with pytest.raises(UserError, match=r"training diverged: .* at step") as raised:
        train(trainer, Interrupts())
    assert "lower `learning_rate` (it is 0.01)" in raised.value.hint
    assert not (run / "adapter_model.safetensors").exists()
    last = latest_checkpoint(run)
    assert last is not None and is_finite(last)
    assert all(is_finite(path) for path in run.glob("checkpoint-*"))
    assert trainer.state.global_step <= int(last.name.partition("-")[2]) + 4, (
        "the next checkpoint's step at the latest"
    )


def test_weights_that_the_last_step_broke_are_not_saved(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """No loss has been computed with them yet."""
    keys = {"learning_rate": 10.0, "weight_decay": 1e38, "lr_scheduler_type": "constant", "eval_strategy": "no"}
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", keys | {"save_steps": 1, "logging_steps": 1})
    with pytest.raises(UserError, match="a trained weight is not finite at step 1;"):
        train(trainer, Interrupts())
    assert math.isfinite(trainer.state.log_history[-1]["loss"])
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_a_loss_between_two_entries_of_the_log_is_not_forgotten(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """Transformers' filter would replace it by the mean of the others; the weights here stay finite."""
    trainer = tiny_trainer(
        tiny_models["llama"], tmp_path / "run", {"learning_rate": 0.0, "logging_steps": 100, "save_steps": 4}
    )
    compute, calls = trainer.compute_loss, []

    def third_is_lost(*arguments: object, **keywords: object) -> object:
        calls.append(compute(*arguments, **keywords))
        return calls[-1] * math.nan if len(calls) == 3 else calls[-1]

    trainer.compute_loss = third_is_lost
    with pytest.raises(UserError, match=r"diverged: `loss` is nan at step 2"):
        train(trainer, Interrupts())
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("name", "fp16", "ends"), [("grad_norm", False, True), ("grad_norm", True, False), ("loss", True, True)]
)
def test_under_fp16_a_gradient_may_overflow_and_a_loss_may_not(
    tmp_path: Path, name: str, fp16: bool, ends: bool
) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    args.fp16 = fp16
    try:
        NonFiniteCallback().on_log(args, TrainerState(), TrainerControl(), {name: math.inf, "learning_rate": 1.0})
    except UserError as error:
        assert ends, error
        assert ("fp16: false" in error.hint) == fp16
    else:
        assert not ends


def test_fp16_may_skip_some_steps_and_not_all(tmp_path: Path) -> None:
    """The real scaler also runs on a CPU."""
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    args.fp16 = True
    Accelerator(cpu=True)
    weight = torch.nn.Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu")
    optimizer = AcceleratedOptimizer(torch.optim.SGD([weight], lr=1e-3), scaler=scaler)
    watchdog, state = NonFiniteCallback(), TrainerState()

    def step(gradient: float) -> None:
        scaler.scale((weight * gradient).sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        watchdog.on_step_end(args, state, TrainerControl(), optimizer=optimizer)

    for _ in range(SKIPPED_IN_A_ROW - 1):
        step(math.inf)
    step(1.0)
    for _ in range(SKIPPED_IN_A_ROW - 1):
        step(math.inf)
    with pytest.raises(UserError, match="overflowed fp16 in the last 32 steps"):
        step(math.inf)
    assert weight.isfinite().all()


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_one_weight_is_enough(tmp_path: Path, broken: float) -> None:
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    weights = [torch.zeros(3, 4), torch.full((2, 2), 3e38)]
    check_weights(weights, args, TrainerState())
    weights[0][2, 3] = broken
    with pytest.raises(UserError, match="a trained weight is not finite"):
        check_weights(weights, args, TrainerState())


def test_two_processes_end_at_the_same_step(
    tmp_path: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    """Neither waits for the other, and the manifest says why."""
    run = tmp_path / "run"
    command = [
        str(Path(sys.executable).with_name("accelerate")), "launch", "--quiet", "--multi_gpu", "--num_processes", "2",
        str(ROOT / "scripts" / "train.py"), str(tiny_recipe), "--repo", str(project), "--output_dir", str(run),
        "--model_name_or_path", str(tiny_models["llama"]), "--weight_decay", "1000", "--lr_scheduler_type", "constant",
        "--logging_steps", "3", "--max_steps", "40",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env=script_environment(), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode != 0
    content = manifest(run)
    assert content["status"] == "failed"
    assert content["training"] is None
    reason = content["phases"][-1]["reason"]
    assert reason.startswith("training diverged")
    assert done.stderr.count(f"error: {reason}\n") == 2, done.stderr
    last = latest_checkpoint(run)
    assert last is not None and is_finite(last)
    assert not (run / "adapter_model.safetensors").exists()

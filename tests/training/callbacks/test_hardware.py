"""Watching the hardware keeps the same weights, records series, pauses when hot, and stops before memory is out."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from trl import SFTTrainer

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.runs.manifest import Manifest, read_manifest
from blocklm.training.callbacks.hardware import memory_in_use
from blocklm.training.monitoring.monitor import monitoring
from blocklm.training.train import train
from blocklm.training.trainer import OrderedTrainer
from tests.conftest import ROOT
from tests.support.fake_nvml import fake_nvml
from tests.support.scripts import script_environment
from tests.support.trainers import tiny_trainer

# A training on a terminal with two GPUs: the first becomes hot at step 3 and cool when the pause is logged, the second
# is lost at step 6. Then a training whose GPU stays hot.
CHILD = """
import json, logging, os, sys, time
from pathlib import Path
from transformers import TrainerCallback
import blocklm.training.callbacks.hardware as hardware
from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.runs.manifest import Manifest
from blocklm.training.train import train
from blocklm.training.monitoring.monitor import monitoring
from tests.support.trainers import tiny_trainer
from tests.support.fake_nvml import gpu

model, folder = Path(sys.argv[1]), Path(sys.argv[2])
logging.basicConfig(level=logging.WARNING, format="%(message)s")
logging.getLogger("blocklm").setLevel(logging.INFO)

def write(*gpus):
    new = folder / "new"
    new.write_text("".join(gpus))
    new.replace(os.environ["FAKE_NVML_STATE"])

class Cools(logging.Handler):
    def emit(self, record):
        if "pausing" in record.getMessage():
            time.sleep(0.2)
            write(gpu(celsius=70), gpu(celsius=71))

class Weather(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        watched_by = trainer.monitor.hardware
        if state.global_step == 2:
            write(gpu(celsius=95), gpu(celsius=71))
            while watched_by.latest["gpu0_temp_c"] != 95:
                time.sleep(0.01)
        if state.global_step == 5:
            write(gpu(celsius=72), gpu(mode="lost"))
            while "gpu1_temp_c" in watched_by.latest:
                time.sleep(0.01)

write(gpu(celsius=70), gpu(celsius=71))
trainer = tiny_trainer(model, folder / "run", {"hardware_interval": 0.05, "logging_steps": 1})
trainer.add_callback(Weather())
logging.getLogger("blocklm").addHandler(cools := Cools())
with monitoring(trainer, Manifest(folder / "run" / "manifest.json", {})):
    train(trainer, Interrupts())
logging.getLogger("blocklm").removeHandler(cools)

write(gpu(celsius=95))
hardware.COOLING_SECONDS = 0.2
interrupts = Interrupts()
trainer = tiny_trainer(model, folder / "hot", {"hardware_interval": 0.05}, interrupts)
try:
    train(trainer, interrupts)
except UserError as error:
    print(json.dumps({"error": str(error), "hint": error.hint}))
"""


@pytest.fixture(scope="module")
def beside_gpus(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> tuple[Path, str, Any]:
    """The folder of that training, what its terminal showed, and what it printed."""
    folder = tmp_path_factory.mktemp("beside-gpus")
    environment = script_environment() | {
        "LD_LIBRARY_PATH": str(fake_nvml(folder)), "FAKE_NVML_STATE": str(folder / "state"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 120))
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tiny_models["llama"]), str(folder)]
    process = subprocess.Popen(command, env=environment, stderr=end, stdout=subprocess.PIPE, text=True)
    os.close(end)
    shown = b""
    while part := _part(terminal):
        shown += part
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, shown.decode()
    return folder, shown.decode(), json.loads(printed)


def _part(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux says that nobody holds the other end any more
        return b""


def test_gpu_series_are_in_history_tensorboard_and_manifest(beside_gpus: tuple[Path, str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _, _ = beside_gpus
    run = folder / "run"
    content = read_manifest(run)
    assert content is not None
    usage = content["hardware"]["usage"]
    assert usage["series"]["gpu0_temp_c"]["max"] == 95
    assert usage["series"]["gpu0_temp_c"]["min"] == 70
    assert usage["series"]["gpu1_temp_c"] == {"min": 71, "mean": 71, "max": 71, "p95": 71}
    assert usage["paused_seconds"] > 0
    assert [entry["series"] for entry in usage["gpus"]] == ["gpu0", "gpu1"]

    (newest,) = (run / "checkpoint-12").glob("trainer_state.json")
    history = [entry for entry in json.loads(newest.read_text())["log_history"] if "loss" in entry]
    assert len(history) == 12
    assert 70 < history[2]["hardware/gpu0_temp_c"] <= 95, "the mean since the step before"
    assert "hardware/gpu1_temp_c" in history[3] and "hardware/gpu1_temp_c" not in history[-1]

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    written = {(one.step, round(one.value, 2)) for one in events.Scalars("hardware/gpu0_temp_c")}
    assert written == {(entry["step"], round(entry["hardware/gpu0_temp_c"], 2)) for entry in history}
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("train/hardware")]
    assert [path.name for path in (run / "tensorboard").iterdir() if path.is_dir()] == [], "one run, and no other"


def test_a_hot_gpu_pauses_the_run_and_a_lost_one_does_not_end_it(beside_gpus: tuple[Path, str, Any]) -> None:
    _, shown, _ = beside_gpus
    assert "a GPU is at 95 °C: pausing until it is below 85 °C" in shown
    assert re.search(r"paused for \d+ s, now at 7\d °C", shown)
    assert shown.count("gpu1 (Fake 1) is no longer read: GPU is lost") == 1


def test_a_gpu_that_stays_hot_ends_the_run_with_a_checkpoint(beside_gpus: tuple[Path, str, Any]) -> None:
    folder, _, ended = beside_gpus
    assert ended == {
        "error": "a GPU stayed at 95 °C while nothing ran on it for 0.2 s: stopped at step 1, which is saved",
        "hint": "check its cooling and run the same command again: it resumes",
    }
    assert (folder / "hot" / "checkpoint-1" / "trainer_state.json").exists()
    assert not (folder / "hot" / "adapter_model.safetensors").exists()


def test_progress_is_one_live_line_and_messages_have_their_own(beside_gpus: tuple[Path, str, Any]) -> None:
    _, shown, _ = beside_gpus
    lines = [line.strip() for line in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Z]", "", shown))]
    live = [line for line in lines if line.startswith("step 12/12 ")]
    pattern = r"step 12/12 \|█+\| 00:00 left, loss \d\.\d{3}, [\d,]+ tokens/s, GPU 3\.0 GiB, 72 °C"
    assert any(re.fullmatch(pattern, line) for line in live), live
    assert [line for line in lines if line.startswith("step 4: evaluation loss")], "on a line of its own"
    assert "{'loss'" not in shown


def test_training_is_the_same_with_and_without_all_that_watches(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, losses = [], []
    for name in ("watched", "alone"):
        trainer = tiny_trainer(tiny_models["llama"], tmp_path / name, {"hardware_interval": 0.001, "logging_steps": 1})
        if name == "alone":
            for method in ("compute_loss", "log"):
                monkeypatch.setattr(OrderedTrainer, method, getattr(SFTTrainer, method))
            for callback in [*trainer.monitor.callbacks, *_boards(trainer)]:
                trainer.remove_callback(callback)
        train(trainer, Interrupts())
        weights.append(load_file(tmp_path / name / "adapter_model.safetensors"))
        losses.append([entry.get("loss", entry.get("eval_loss")) for entry in trainer.state.log_history])
    assert losses[0] == losses[1]
    assert all(weights[0][name].equal(weight) for name, weight in weights[1].items())


def _boards(trainer: SFTTrainer) -> list[Any]:
    found = [callback for callback in trainer.callback_handler.callbacks if type(callback).__name__ == "BoardCallback"]
    assert len(found) == 1
    return found


def test_full_memory_ends_the_run_with_a_checkpoint_that_resumes_exactly(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    train(tiny_trainer(tiny_models["llama"], tmp_path / "whole", {}), Interrupts())

    run, interrupts = tmp_path / "full", Interrupts()
    manifest = Manifest(run / "manifest.json", {})
    trainer = tiny_trainer(tiny_models["llama"], run, {"memory_stop_percent": 0.01}, interrupts)
    stopped = r"\d+ % of this machine's RAM is taken: stopped at step 1, which is saved"
    with pytest.raises(UserError, match=stopped), manifest.phase("train"), monitoring(trainer, manifest):
        train(trainer, interrupts)
    content = read_manifest(run)
    assert content is not None
    assert "stopped at step 1" in content["phases"][0]["reason"]
    assert content["hardware"]["usage"]["series"]["ram_percent"]["min"] > 0
    assert not (run / "adapter_model.safetensors").exists()

    train(tiny_trainer(tiny_models["llama"], run, {}), Interrupts())
    whole, resumed = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "full"))
    assert all(whole[name].equal(weight) for name, weight in resumed.items())


def test_high_memory_is_warned_of_once_and_normal_memory_never(
    tiny_models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_trainer(tiny_models["llama"], tmp_path / "quiet", {}).train()
    assert not [record for record in caplog.records if record.name.startswith("blocklm")]
    tiny_trainer(tiny_models["llama"], tmp_path / "warned", {"memory_warn_percent": 0.01}).train()
    (message,) = [record.getMessage() for record in caplog.records if record.name.startswith("blocklm")]
    assert re.fullmatch(r"\d+ % of RAM is taken \(`memory_warn_percent` is 0\.01\)", message)


def test_pytorchs_cached_memory_counts_as_free() -> None:
    sample = {"ram_percent": 40.0, "gpu_memory_percent": 96.0, "gpu_memory_used_mib": 5760.0}
    assert memory_in_use(sample) == {"RAM": 40.0, "gpu's memory": 96.0}
    cached = {"gpu_torch_reserved_mib": 5000.0, "gpu_torch_allocated_mib": 2000.0}
    assert memory_in_use(sample | cached) == {"RAM": 40.0, "gpu's memory": 46.0}


def test_an_interval_of_zero_reads_no_hardware(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tiny_models["llama"], tmp_path / "run", {"hardware_interval": 0, "memory_stop_percent": 0.01}
    )
    manifest, before = Manifest(tmp_path / "manifest.json", {}), set(threading.enumerate())
    with monitoring(trainer, manifest):
        trainer.train()
    assert manifest.content["hardware"] == {"usage": None}
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("blocklm"):
            thread.join(5)
            assert not thread.is_alive(), f"{thread.name} still looks"
    assert not [name for entry in trainer.state.log_history for name in entry if name.startswith("hardware/")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hardware_interval", "-1"),
        ("memory_warn_percent", "0"),
        ("memory_stop_percent", "101"),
        ("max_gpu_temp", "nan"),
    ],
)
def test_a_limit_out_of_bounds_is_refused(key: str, value: str) -> None:
    with pytest.raises(UserError, match=f"`{key}` cannot be"):
        parse_recipe([str(ROOT / "recipes" / "quickstart.yaml"), f"--{key}", value])

"""Each variant of LoRA trains, resumes exactly, leaves the base unchanged, and loads in a new process."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

from blocklm.interrupts import Interrupts
from blocklm.models.loading import load_base
from blocklm.models.precision import choose_precision
from blocklm.models.pretrained import model_config
from blocklm.training.train import train
from tests.support.trainers import rows_of, trainer_of

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("llama", {}),
    "rslora": ("llama", {"use_rslora": True}),
    "dora": ("gpt2", {"use_dora": True}),
    "dora-4bit": ("starcoder2", {"use_dora": True, "load_in_4bit": True}),
    "loraplus": ("llama", {"loraplus_lr_ratio": 16}),
    "neftune": ("llama", {"neftune_noise_alpha": 5}),
    "gaussian": ("llama", {"init_lora_weights": "gaussian"}),
    "eva": ("gpt2", {"init_lora_weights": "eva"}),
    "eva-4bit": ("starcoder2", {"init_lora_weights": "eva", "load_in_4bit": True}),
}
IDS = [[5, 6, 7, 8]]
Build = Callable[[str], SFTTrainer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lora")


@pytest.fixture(scope="module")
def build(folder: Path, tiny_models: dict[str, Path]) -> Build:
    """Build the trainer of a variant for four steps with a checkpoint after the second."""
    generator = np.random.default_rng(0)
    rows = rows_of([generator.integers(1, 370, 20 + 5 * (at % 4)).tolist() for at in range(16)])

    def built(name: str) -> SFTTrainer:
        family, more = VARIANTS[name]
        keys = {
            "model_name_or_path": str(tiny_models[family]), "use_peft": True, "lora_r": 4, "lora_dropout": 0.1, "max_length": 64,
            "report_to": [], "gradient_checkpointing": True, "max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 2,
            "learning_rate": 1e-2, "logging_steps": 1, "bf16": False,
        }  # fmt: skip
        return trainer_of(folder / name, keys | more, rows, rows)

    return built


@pytest.fixture(scope="module")
def trained(build: Build, folder: Path) -> dict[str, dict[str, Any]]:
    """Train every variant once, and return what the tests compare."""
    seen: dict[str, dict[str, Any]] = {}
    for name in VARIANTS:
        trainer = build(name)
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        entry = train(trainer, Interrupts())
        with trainer.model.disable_adapter(), torch.no_grad():  # as the exam's base arm
            logits = trainer.model.eval()(torch.tensor(IDS)).logits
        seen[name] = {"trainer": trainer, "before": before, "entry": entry, "base": logits}
    return seen


@pytest.mark.parametrize("name", VARIANTS)
def test_a_run_that_resumes_ends_in_the_same_adapter(
    trained: dict[str, Any], build: Build, folder: Path, name: str
) -> None:
    uninterrupted = load_file(folder / name / "adapter_model.safetensors")
    (folder / name / "adapter_model.safetensors").rename(folder / f"{name}.safetensors")
    shutil.rmtree(folder / name / "checkpoint-4")
    assert train(build(name), Interrupts())["resumed_from"] == 2
    again = load_file(folder / name / "adapter_model.safetensors")
    assert uninterrupted.keys() == again.keys()
    assert all(torch.equal(uninterrupted[key], again[key]) for key in uninterrupted)


@pytest.mark.parametrize("name", VARIANTS)
def test_without_its_adapter_the_model_is_the_base(
    trained: dict[str, Any], tiny_models: dict[str, Path], name: str
) -> None:
    family, keys = VARIANTS[name]
    if "load_in_4bit" in keys:
        config = model_config({"model_name_or_path": str(tiny_models[family]), "load_in_4bit": True})
        model = load_base(config, choose_precision(None, False))
    else:
        model = AutoModelForCausalLM.from_pretrained(tiny_models[family])
    with torch.no_grad():
        assert torch.equal(model.eval()(torch.tensor(IDS)).logits, trained[name]["base"])


def test_every_adapter_loads_in_a_fresh_process_and_changes_the_logits(trained: dict[str, Any], folder: Path) -> None:
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom peft import AutoPeftModelForCausalLM as A\n"
        f"ids = torch.tensor({IDS})\n"
        "for run in map(Path, sys.argv[1:]):\n"
        "    model = A.from_pretrained(run).eval()\n"
        "    with torch.no_grad(), model.disable_adapter():\n        base = model(ids).logits\n"
        "    torch.save([base, model(ids).logits.detach()], run / 'logits.pt')\n"
    )
    subprocess.run([sys.executable, "-c", code, *(str(folder / name) for name in VARIANTS)], check=True)
    for name, seen in trained.items():
        base, tuned = torch.load(folder / name / "logits.pt")
        with torch.no_grad():
            expected = seen["trainer"].model.eval()(torch.tensor(IDS)).logits
        assert not torch.allclose(base, tuned, atol=1e-3), name
        if "4bit" not in name:  # there the fresh process has the weights unquantised
            assert torch.allclose(tuned, expected, atol=1e-5), name


def test_each_lora_key_has_its_effect(trained: dict[str, Any], folder: Path) -> None:
    layer = {
        name: next(module for module in seen["trainer"].model.modules() if hasattr(module, "lora_A"))
        for name, seen in trained.items()
    }
    assert layer["plain"].scaling["default"] == 32 / 4
    assert layer["rslora"].scaling["default"] == 32 / 2
    assert "default" in layer["dora"].lora_magnitude_vector
    rates = {group["initial_lr"] for group in trained["loraplus"]["trainer"].optimizer.param_groups}
    assert {1e-2, 16e-2} <= rates
    assert trained["neftune"]["entry"]["loss_history"] != trained["plain"]["entry"]["loss_history"]
    spread = {
        name: torch.cat([v.flatten() for k, v in seen["before"].items() if "lora_A" in k]).std()
        for name, seen in trained.items()
    }
    assert spread["gaussian"] == pytest.approx(1 / 4, rel=0.1)
    assert spread["plain"] < 0.15
    for name in ("eva", "eva-4bit"):
        for key, value in trained[name]["before"].items():
            if "lora_A" in key:
                assert torch.allclose(value @ value.T, torch.eye(4), atol=1e-4), "directions of the inputs"


def test_checkpointing_is_not_reentrant(trained: dict[str, Any]) -> None:
    layers = [
        module
        for module in trained["plain"]["trainer"].model.modules()
        if hasattr(module, "_gradient_checkpointing_func")
    ]
    assert layers
    assert all(layer._gradient_checkpointing_func.keywords == {"use_reentrant": False} for layer in layers)

"""The largest steps run before the first; if memory is really too small for them, they become smaller."""

import ctypes
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    TrainerCallback,
    TrainerState,
)
from trl import SFTTrainer

from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.training.planning.preflight import DoesNotFit, fit, step_down
from blocklm.training.train import train
from tests.support.memory import MIB, UNLIMITED, leave, memory_left
from tests.support.trainers import rows_of, trainer_of

LENGTH = 512
M_MMAP_THRESHOLD = -3


@pytest.fixture(autouse=True, scope="module")
def freed_memory_goes_back() -> Iterator[None]:
    """Return each freed tensor to the system at once, as a device does; by default glibc keeps some."""
    glibc = ctypes.CDLL(None)
    glibc.mallopt(M_MMAP_THRESHOLD, 1 << 16)
    glibc.malloc_trim(0)
    yield
    glibc.mallopt(M_MMAP_THRESHOLD, 32 * MIB)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> Path:
    """A model of which one row takes some 70 MiB without checkpointing."""
    folder = tmp_path_factory.mktemp("wide")
    config = AutoConfig.for_model(
        "llama", hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4, vocab_size=512,
        max_position_embeddings=LENGTH, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_models["llama"]).save_pretrained(folder)
    return folder


Build = Callable[[str, int, int], SFTTrainer]


@pytest.fixture
def build(wide: Path, tmp_path: Path) -> Build:
    """Build a trainer by run name, micro-batch and accumulation."""
    generator = np.random.default_rng(0)
    rows = rows_of([generator.integers(1, 400, LENGTH - 8 * (at % 5)).tolist() for at in range(64)])
    keys = {
        "model_name_or_path": str(wide), "use_peft": True, "lora_r": 4, "lora_dropout": 0.0, "max_length": LENGTH, "max_steps": 3,
        "learning_rate": 1e-2, "save_strategy": "steps", "save_steps": 100, "eval_strategy": "no", "logging_steps": 1,
        "bf16": False, "gradient_checkpointing": False, "seed": 5, "report_to": [],
    }  # fmt: skip

    def built(name: str, micro: int, accumulation: int) -> SFTTrainer:
        batch = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation}
        return trainer_of(tmp_path / name, keys | batch, rows, rows.select(range(4)))

    return built


def drawn() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]


def test_a_run_that_fits_is_not_changed(build: Build) -> None:
    trainer = build("fits", 4, 2)
    before = drawn()
    assert fit(trainer, 1000, 512) == []
    assert drawn() == before
    assert all(parameter.grad is None for parameter in trainer.model.parameters())
    assert trainer.args.per_device_train_batch_size == 4
    assert not trainer._metrics["train"]


def test_a_micro_batch_too_large_for_memory_is_halved_until_it_fits(build: Build) -> None:
    trainer = build("halved", 16, 1)
    with memory_left(700 * MIB):
        changed = fit(trainer, 0, 0)
    assert 1 <= len(changed) <= 3
    args = trainer.args
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 16
    assert args.per_device_train_batch_size < 16
    assert f"micro-batch {args.per_device_train_batch_size} instead of" in changed[-1]


def test_a_row_too_long_for_memory_ends_with_a_hint(build: Build) -> None:
    trainer = build("none", 2, 1)
    with memory_left(8 * MIB), pytest.raises(DoesNotFit, match="a row of 512 tokens"):
        fit(trainer, 0, 0)


def test_memory_for_the_optimizer_is_reserved(build: Build) -> None:
    """Its state is allocated in the first step, after everything else has been found to fit."""
    trainer = build("state", 1, 1)
    with memory_left(400 * MIB), pytest.raises(DoesNotFit):
        fit(trainer, 500 * MIB, 0)


class Fills(TrainerCallback):
    """Leaves the process too little memory for one step."""

    def __init__(self, at: int, extra: int) -> None:
        self.at, self.extra = at, extra
        self.held: list[torch.Tensor] = []

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.at:
            self.held = leave(self.extra)


def test_memory_that_runs_out_later_loses_no_step(build: Build, tmp_path: Path) -> None:
    """The last step is saved, the micro-batch halved, and the result is that of the same rows and steps."""
    uninterrupted = build("uninterrupted", 8, 1)
    train(uninterrupted, Interrupts())
    trainer = build("filled", 8, 1)
    filler = Fills(2, 350 * MIB)
    trainer.add_callback(filler)
    try:
        summary = train(trainer, Interrupts())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
    assert summary["steps"] == 3
    assert summary["micro_batch"] * summary["gradient_accumulation"] == 8
    assert summary["micro_batch"] < 8
    assert (tmp_path / "filled" / "checkpoint-2").is_dir()
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("filled", "uninterrupted"))
    assert all(torch.allclose(ours[key], theirs[key], atol=2e-4) for key in theirs)


def test_a_batch_of_one_cannot_be_halved(build: Build) -> None:
    trainer = build("one", 1, 8)
    assert step_down(trainer) is None
    trainer = build("six", 6, 2)
    assert "micro-batch 3 instead of 6, accumulation 4" in str(step_down(trainer))


def test_a_later_memory_shortage_at_one_row_ends_with_a_hint(build: Build) -> None:
    trainer = build("single", 1, 1)
    filler = Fills(1, 8 * MIB)
    trainer.add_callback(filler)
    try:
        with pytest.raises(UserError, match="memory ran out at step 1, which is saved"):
            train(trainer, Interrupts())
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)


def test_a_model_that_cannot_be_saved_is_refused_before_the_first_step(build: Build, tmp_path: Path) -> None:
    trainer = build("unsavable", 1, 1)
    trainer.model.get_base_model().generation_config.temperature = 0.5
    with pytest.raises(UserError, match=r"what is trained could not be saved: .*temperature") as refused:
        fit(trainer, 0, 0)
    assert "`model_name_or_path`" in refused.value.hint
    assert not list((tmp_path / "unsavable").glob(".rehearsal-*"))

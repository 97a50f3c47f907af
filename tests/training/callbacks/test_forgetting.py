"""A training ends once general text costs too much, and what it had learned before is its result."""

from pathlib import Path

import pytest
from trl import SFTTrainer

from blocklm.interrupts import Interrupts
from blocklm.training.callbacks.forgetting import BITS, RISE, ForgettingCallback
from blocklm.training.train import train
from tests.support.runs import weights
from tests.support.trainers import tiny_trainer

KEYS = {"early_stopping_patience": 20, "max_steps": 12, "save_steps": 2, "lr_scheduler_type": "constant"}


def history(trainer: SFTTrainer, key: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[key]) for entry in trainer.state.log_history if key in entry]


def test_a_training_that_forgets_ends_at_its_best_step_before(
    tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each measurement finds that the texts cost 1.6 % more; a random model has nothing that it could forget."""
    measured = iter((1.0, 1.016, 1.032))
    monkeypatch.setattr(ForgettingCallback, "_bits_per_byte", lambda self, model: next(measured))
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", KEYS)
    summary = train(trainer, Interrupts())
    assert [step for step, _ in history(trainer, RISE)] == [2, 4]
    assert (summary["stopped_by"], summary["steps"]) == ("forgetting", 4)
    losses = dict(history(trainer, "eval_loss"))
    assert losses[4] < losses[2], "its own text alone would choose the last step"
    assert (summary["best_step"], summary["best_eval_loss"]) == (2, losses[2])
    assert weights(tmp_path / "run") == weights(tmp_path / "run" / "checkpoint-2")

    again = tiny_trainer(tiny_models["llama"], tmp_path / "run", KEYS)
    assert train(again, Interrupts())["steps"] == 4, "the same command trains no further"


def test_general_text_is_compared_with_the_model_before_the_training(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", KEYS | {"max_steps": 4, "learning_rate": 0})
    assert train(trainer, Interrupts())["stopped_by"] == "schedule"
    assert history(trainer, RISE) == [(2, 0.0), (4, 0.0)]
    ((step, bits),) = history(trainer, BITS)
    assert step == 0 and bits > 1

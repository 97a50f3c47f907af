"""A loss that stays high ends the run; a spike or a slow fall does not. A hanging step is logged."""

import logging
import threading
import time
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.runs.checkpoints import latest_checkpoint
from blocklm.training.callbacks.loss_spike import IN_A_ROW, USUAL_LOSSES, count_spikes
from blocklm.training.callbacks.stall import StallCallback
from blocklm.training.train import train
from tests.support.trainers import tiny_trainer

USUAL = [2.0] * USUAL_LOSSES


@pytest.mark.parametrize(
    ("last", "spikes"),
    [
        ([], 0),
        ([9.0], 1),
        ([9.0, 9.0], 2),
        ([9.0, 2.0], 0),  # it came back
        ([2.9], 0),  # neither half again as much
        ([3.5, 3.5, 3.5], 3),
        ([9.0] * 6, IN_A_ROW),
    ],
)
def test_spikes_are_counted_against_what_was_usual_before_them(last: list[float], spikes: int) -> None:
    assert count_spikes(USUAL + last) == spikes
    assert count_spikes(last) == 0, "too young to know what is usual"


def test_a_loss_that_does_not_come_back_stops_the_run_with_a_checkpoint(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    interrupts = Interrupts()
    keys = {"max_steps": 60, "logging_steps": 1, "eval_strategy": "no", "save_steps": 1000}
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", keys, interrupts)
    compute = trainer.compute_loss

    def spoiled(*arguments: object, **keywords: object) -> object:
        loss = compute(*arguments, **keywords)
        return loss * 5 if trainer.state.global_step >= 20 else loss

    trainer.compute_loss = spoiled
    with pytest.raises(
        UserError, match=r"far above its median for 4 logs, .* at step 24; a checkpoint is saved"
    ) as raised:
        train(trainer, interrupts)
    assert "lower `learning_rate`" in raised.value.hint
    last = latest_checkpoint(tmp_path / "run")
    assert last is not None
    assert trainer.state.global_step == int(last.name.partition("-")[2]) <= 25


def test_a_spike_at_the_last_step_loses_no_result(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    interrupts = Interrupts()
    keys = {"max_steps": 24, "logging_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", keys, interrupts)
    compute = trainer.compute_loss

    def spoiled(*arguments: object, **keywords: object) -> object:
        loss = compute(*arguments, **keywords)
        return loss * 5 if trainer.state.global_step >= 20 else loss

    trainer.compute_loss = spoiled
    assert train(trainer, interrupts)["steps"] == 24
    assert count_spikes([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]) == IN_A_ROW


def test_a_hanging_step_is_logged_once_with_its_stack(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    watch = StallCallback(min_seconds=0.05)
    args, state, control = TrainingArguments(output_dir=str(tmp_path)), TrainerState(), TrainerControl()
    before = threading.active_count()
    for _ in range(2):  # the second time after a shortage of memory
        watch.on_train_begin(args, state, control)
    assert threading.active_count() == before + 1
    for _ in range(3):
        watch.on_step_begin(args, state, control)
        watch.on_step_end(args, state, control)
    time.sleep(0.3)  # an evaluation or a checkpoint: no step
    with caplog.at_level(logging.WARNING):
        watch.on_step_begin(args, state, control)
        time.sleep(0.5)
        watch.on_step_end(args, state, control)
    watch.stop()
    assert [record.getMessage()[:28] for record in caplog.records] == ["a step has not ended after 0"]
    assert "test_a_hanging_step" in capfd.readouterr().err

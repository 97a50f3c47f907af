"""Each callback has its one effect, on a trainer that really trains."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from trl import SFTTrainer

from blocklm.training.callbacks.eta import duration
from tests.support.trainers import rows_of, trainer_of


@pytest.fixture
def four_bit(tiny_models: dict[str, Path], tmp_path: Path) -> Callable[[], SFTTrainer]:
    """Build a trainer of StarCoder2 in 4 bit for two steps."""
    keys = {
        "model_name_or_path": str(tiny_models["starcoder2"]), "use_peft": True, "load_in_4bit": True, "lora_r": 4, "max_length": 64,
        "max_steps": 2, "report_to": [], "gradient_checkpointing": True,
    }  # fmt: skip
    rows = rows_of([[7, 8, 9] * 20] * 16)
    return lambda: trainer_of(tmp_path / "run", keys, rows, rows)


def test_training_begins_in_the_chosen_precision(four_bit: Callable[[], SFTTrainer]) -> None:
    trainer = four_bit()
    assert trainer.train().global_step == 2
    kwargs = trainer.args.gradient_checkpointing_kwargs
    assert kwargs == {"use_reentrant": False}


def test_weights_in_another_precision_are_refused(four_bit: Callable[[], SFTTrainer]) -> None:
    """SFTTrainer leaves them so on a quantised base, and fp16's GradScaler cannot unscale them."""
    trainer = four_bit()
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    with pytest.raises(AssertionError, match=r"lora_A.*would be trained in torch\.bfloat16"):
        trainer.train()


def test_flags_that_something_changed_are_refused(four_bit: Callable[[], SFTTrainer]) -> None:
    trainer = four_bit()
    trainer.args.bf16 = not trainer.args.bf16
    with pytest.raises(AssertionError, match="chosen"):
        trainer.train()


def test_a_quantised_layer_of_another_compute_type_is_refused(four_bit: Callable[[], SFTTrainer]) -> None:
    trainer = four_bit()
    layer = trainer.model.base_model.model.model.layers[1].mlp.c_fc.base_layer
    layer.compute_dtype = torch.float64
    with pytest.raises(AssertionError, match=r"c_fc.*multiplies in torch\.float64"):
        trainer.train()


def test_the_time_left_is_shown_after_some_steps(
    four_bit: Callable[[], SFTTrainer], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = four_bit()
    trainer.args.max_steps = 26
    with caplog.at_level("INFO", logger="blocklm"):
        trainer.train()
    (message,) = [record.getMessage() for record in caplog.records if "a step" in record.getMessage()]
    assert "about 1 min for the 20 steps left" in message


def test_durations_are_formatted_for_people() -> None:
    assert [duration(seconds) for seconds in (3, 119, 3600, 7500)] == ["1 min", "2 min", "1 h 00 min", "2 h 05 min"]

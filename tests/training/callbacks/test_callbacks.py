"""Each callback does its one thing, on a trainer that really trains."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTTrainer

from blocklm.config.recipe import parse_recipe
from blocklm.interrupts import Interrupts
from blocklm.models.loading import load_base, model_config
from blocklm.models.precision import choose_precision
from blocklm.training.callbacks.eta import duration
from blocklm.training.data_order import ReadingList
from blocklm.training.train import build_trainer, sft_config


@pytest.fixture
def four_bit(tiny_models: dict[str, Path], tmp_path: Path) -> Callable[[], SFTTrainer]:
    """Build a trainer of StarCoder2 in 4 bit for two steps."""
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(
        f"model_name_or_path: {tiny_models['starcoder2']}\nuse_peft: true\nload_in_4bit: true\nlora_r: 4\nmax_length: 64\n"
        f"max_steps: 2\noutput_dir: {tmp_path / 'run'}\nreport_to: []\ngradient_checkpointing: true\n"
    )

    def build() -> SFTTrainer:
        recipe = parse_recipe([str(recipe_file)])
        precision = choose_precision(None, None)
        rows = Dataset.from_dict({"input_ids": [[7, 8, 9] * 20] * 16, "labels": [[7, 8, 9] * 20] * 16})
        base = load_base(model_config(recipe.model), precision)
        tokenizer = AutoTokenizer.from_pretrained(tiny_models["starcoder2"])
        reading = ReadingList(rows, list(range(16)), 16, {})
        return build_trainer(
            recipe, sft_config(recipe, precision), base, tokenizer, reading, rows, Interrupts(), precision
        )

    return build


def test_training_begins_in_the_chosen_precision(four_bit: Callable[[], SFTTrainer]) -> None:
    trainer = four_bit()
    assert trainer.train().global_step == 2
    kwargs = trainer.args.gradient_checkpointing_kwargs
    assert kwargs == {"use_reentrant": False}


def test_weights_in_another_precision_are_refused(four_bit: Callable[[], SFTTrainer]) -> None:
    """As SFTTrainer leaves them on a quantised base, which fp16's GradScaler cannot unscale."""
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


def test_the_time_left_is_said_once_some_steps_are_known(
    four_bit: Callable[[], SFTTrainer], caplog: pytest.LogCaptureFixture
) -> None:
    trainer = four_bit()
    trainer.args.max_steps = 26
    with caplog.at_level("INFO", logger="blocklm"):
        trainer.train()
    (said,) = [record.getMessage() for record in caplog.records if "a step" in record.getMessage()]
    assert "about 1 min for the 20 steps left" in said


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(seconds) for seconds in (3, 119, 3600, 7500)] == ["1 min", "2 min", "1 h 00 min", "2 h 05 min"]

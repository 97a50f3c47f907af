"""Trainers of tiny models in the test's process, built as the main job builds its own."""

from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from trl import SFTTrainer

from blocklm.config.recipe import parse_recipe
from blocklm.interrupts import Interrupts
from blocklm.models.loaded import LoadedModel
from blocklm.models.loading import load_base
from blocklm.models.precision import choose_precision
from blocklm.models.pretrained import load_tokenizer, model_config
from blocklm.training.data_order import TrainingOrder
from blocklm.training.train import build_trainer, sft_config
from tests.conftest import function

TINY: dict[str, Any] = {
    "use_peft": True, "lora_r": 4, "lora_dropout": 0.1, "max_length": 128, "max_steps": 12, "learning_rate": 0.01,
    "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 2,
    "save_strategy": "steps", "save_steps": 4, "logging_steps": 3, "bf16": False, "seed": 7,
}  # fmt: skip


def rows_of(token_ids: list[list[int]]) -> Dataset:
    """Rows in which every token is learned."""
    return Dataset.from_dict({"input_ids": token_ids, "labels": token_ids})


def trainer_of(
    run: Path, keys: dict[str, Any], train: Dataset, validation: Dataset, interrupts: Interrupts | None = None
) -> SFTTrainer:
    """A trainer that reads the rows in their order, epoch after epoch.

    Args:
        run: run directory; the recipe is written beside it.
        keys: all keys of the recipe but `output_dir`.
        train: rows to learn from.
        validation: rows of the evaluation.
        interrupts: requests to stop; none by default.
    """
    path = run.with_name(f"{run.name}.yaml")
    path.write_text(yaml.safe_dump({"output_dir": str(run), **keys}))
    recipe = parse_recipe([str(path)])
    config, precision = model_config(recipe.model), choose_precision(None, keys.get("bf16"))
    args = sft_config(recipe, precision)
    epochs = 1.0 if args.max_steps > 0 else args.num_train_epochs
    order = [at % len(train) for at in range(int(len(train) * epochs))]
    reading = TrainingOrder(train, order, len(train), {})
    base = LoadedModel(load_base(config, precision), load_tokenizer(config), precision.dtype)
    return build_trainer(recipe, args, base, reading, validation, interrupts or Interrupts())


def tiny_trainer(model: Path, run: Path, keys: dict[str, Any], interrupts: Interrupts | None = None) -> SFTTrainer:
    """A trainer with dropout and accumulation unless `keys` of a recipe say otherwise.

    It reads 64 samples and is evaluated on 8 every two steps; they are best after step 12 of the tiny Llama.
    """
    given = {**TINY, "model_name_or_path": str(model), **keys}
    tokenizer = load_tokenizer(model_config({"model_name_or_path": str(model)}))
    rows = rows_of([tokenizer(function(number))["input_ids"] for number in range(72)])
    return trainer_of(run, given, rows.select(range(64)), rows.select(range(64, 72)), interrupts)

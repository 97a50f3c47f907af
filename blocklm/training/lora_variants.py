"""Variants of LoRA that PEFT has and TRL does not offer: EVA, which initialises an adapter from data, and LoRA+.

None of them changes the base model, so that a saved adapter works on it in any other program.
"""

from typing import Any

import torch
from peft import EvaConfig, LoraConfig, PeftModel, initialize_lora_eva_weights
from peft.optimizers import create_loraplus_optimizer
from transformers import TrainingArguments
from trl import SFTTrainer

from blocklm.config.lora import LoraArguments
from blocklm.errors import UserError

EVA_ROWS = 256


def lora_variant(config: LoraConfig | None, lora: LoraArguments) -> LoraConfig | None:
    """Set the recipe's initialisation in a LoRA configuration."""
    if config is not None and lora.init_lora_weights is not None:
        config.init_lora_weights = lora.init_lora_weights
        if lora.init_lora_weights == "eva":
            # With rho 1 every layer keeps the recipe's rank, so that a resumed run finds the shapes that it saved.
            config.eva_config = EvaConfig(rho=1.0, use_label_mask=False)
    return config


def initialise_with_eva(trainer: SFTTrainer, order: list[int]) -> None:
    """Initialise each layer's A with the directions in which its inputs on the first samples vary most.

    Every process reads the same samples and gets the same adapter.

    Args:
        trainer: a trainer before its first step.
        order: row numbers of its dataset, in training order.

    Raises:
        UserError: no sample is long enough.
    """
    model: PeftModel = trainer.model
    rank = model.peft_config["default"].r
    rows = [row for place in order[:EVA_ROWS] if len((row := trainer.train_dataset[place])["input_ids"]) >= rank]
    size = trainer.args.per_device_train_batch_size
    batches = [_collate(trainer, rows[start : start + size]) for start in range(0, len(rows), size)]
    if not batches:  # PEFT would search shorter rows for `rank` directions for ever
        raise UserError(f"no sample has `lora_r` {rank} tokens to begin EVA with", "lower `lora_r`")
    initialize_lora_eva_weights(
        model,
        batches,
        forward_fn=lambda peft, inputs: peft.get_base_model().base_model(**inputs),  # the logits are not needed
        gather_distributed_inputs=False,
    )


def _collate(trainer: SFTTrainer, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: values for name, values in trainer.data_collator(rows).items() if name != "labels"}


def loraplus(trainer: SFTTrainer, model: PeftModel, ratio: float) -> torch.optim.Optimizer:
    """Build the recipe's optimizer with a learning rate for B that is `ratio` times that of A."""
    args: TrainingArguments = trainer.args
    kind, keys = trainer.get_optimizer_cls_and_kwargs(args, model)
    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=args.weight_decay, **keys
    )
    return optimizer

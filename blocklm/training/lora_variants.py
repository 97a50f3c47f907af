"""LoRA's relatives that PEFT has and TRL does not pass on: EVA, which begins an adapter from data, and LoRA+.

All leave the base model as it is, so that what is saved works on it in any other program.
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
    """A LoRA configuration whose adapter begins as the recipe says."""
    if config is not None and lora.init_lora_weights is not None:
        config.init_lora_weights = lora.init_lora_weights
        if lora.init_lora_weights == "eva":
            # With rho 1 every layer keeps the recipe's rank: a resumed run finds the shapes that it saved.
            config.eva_config = EvaConfig(rho=1.0, use_label_mask=False)
    return config


def initialise_with_eva(trainer: SFTTrainer, order: list[int]) -> None:
    """Let A be what the first samples that are read vary most along in each layer; the same in every process.

    Args:
        trainer: not yet trained.
        order: rows of its dataset.

    Raises:
        UserError: there is nothing to begin with.
    """
    model: PeftModel = trainer.model
    rank = model.peft_config["default"].r
    rows = [row for at in order[:EVA_ROWS] if len((row := trainer.train_dataset[at])["input_ids"]) >= rank]
    size = trainer.args.per_device_train_batch_size
    batches = [_inputs(trainer, rows[at : at + size]) for at in range(0, len(rows), size)]
    if not batches:  # PEFT would look for `rank` directions in shorter rows for ever
        raise UserError(f"no sample has `lora_r` {rank} tokens to begin EVA with", "lower `lora_r`")
    initialize_lora_eva_weights(
        model,
        batches,
        forward_fn=lambda peft, inputs: peft.get_base_model().base_model(**inputs),  # the logits are not needed
        gather_distributed_inputs=False,
    )


def _inputs(trainer: SFTTrainer, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {name: values for name, values in trainer.data_collator(rows).items() if name != "labels"}


def loraplus(trainer: SFTTrainer, model: PeftModel, ratio: float) -> torch.optim.Optimizer:
    """The optimizer that the recipe names, with a learning rate for B that is `ratio` times that of A."""
    args: TrainingArguments = trainer.args
    kind, keys = trainer.get_optimizer_cls_and_kwargs(args, model)
    optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
        model, kind, loraplus_lr_ratio=ratio, loraplus_weight_decay=args.weight_decay, **keys
    )
    return optimizer

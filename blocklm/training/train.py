"""Assembles TRL's SFTTrainer, trains and resumes."""

import logging
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import EarlyStoppingCallback, set_seed
from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.errors import UserError
from blocklm.evaluation.exam.forgetting import general_items
from blocklm.interrupts import Interrupts
from blocklm.models.adapter import lora_config
from blocklm.models.distributed import is_sharded
from blocklm.models.loaded import LoadedModel
from blocklm.models.precision import Precision, spare_conversions
from blocklm.models.pretrained import model_config
from blocklm.runs.checkpoints import latest_checkpoint
from blocklm.training.arguments import build_arguments
from blocklm.training.callbacks.best_checkpoint import BestCallback
from blocklm.training.callbacks.eta import EstimateCallback
from blocklm.training.callbacks.forgetting import ForgettingCallback
from blocklm.training.callbacks.freed_memory import FreedMemoryCallback
from blocklm.training.callbacks.interrupt import InterruptCallback
from blocklm.training.callbacks.loss_spike import SpikeCallback
from blocklm.training.callbacks.nonfinite_guard import NonFiniteCallback
from blocklm.training.callbacks.precision_guard import PrecisionCallback
from blocklm.training.data_order import TrainingOrder
from blocklm.training.lora_variants import initialise_with_eva, lora_variant
from blocklm.training.monitoring.monitor import TrainingMonitor
from blocklm.training.planning.planner import suitable_optimizer
from blocklm.training.planning.preflight import out_of_memory, release_memory, step_down
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.summary import training_summary
from blocklm.training.trainer import OrderedTrainer

logger = logging.getLogger(__name__)


def sft_config(
    recipe: Recipe, precision: Precision, plan: RunPlan | None = None, epochs: float | None = None
) -> SFTConfig:
    """Build the trainer's arguments: the recipe's keys, both precision flags and the keys that early stopping needs.

    Args:
        recipe: the run's recipe.
        precision: mixed precision on this device.
        plan: the sizes that fit the device; None for the recipe's own.
        epochs: number of epochs that reads `target_tokens`; None for the recipe's own.

    Raises:
        UserError: keys that do not go together, in the library's own words.
    """
    # The trainer would push the whole run directory before the exam; `blocklm.release.publish` pushes after the gate.
    keys = {key: value for key, value in recipe.training.items() if not key.startswith(("hub_", "push_to_hub"))}
    if recipe.run.early_stopping_patience is not None:
        # Early stopping compares evaluations and must be able to return to the best of them.
        defaults = {
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
        }
        keys = defaults | keys
    keys |= {"fp16": precision.fp16, "bf16": precision.bf16, "use_cpu": not torch.cuda.is_available()}
    if not torch.cuda.is_available():
        keys["activation_offloading"] = False  # TRL's would look for an accelerator
    keys["logging_nan_inf_filter"] = False  # it would hide a NaN loss from the logs and from NonFiniteCallback
    # Samples arrive as token ids and labels, cut to `max_length` and packed: TRL has nothing to prepare.
    keys["packing"] = keys.get("packing") is True  # `auto` is decided once the model is loaded
    if epochs is not None:
        keys["num_train_epochs"] = epochs
    if plan is not None:
        keys |= _plan_keys(plan)
    keys["dataset_kwargs"] = {"skip_prepare_dataset": True}
    args = build_arguments(keys)
    if args.metric_for_best_model is not None and args.save_total_limit == 1:
        # The best and the last: with 1, transformers deletes the last checkpoint at the end, and when interrupted.
        args.save_total_limit = 2
    if plan is not None:
        args.optim = suitable_optimizer(args)
    return args


def _plan_keys(plan: RunPlan) -> dict[str, Any]:
    keys: dict[str, Any] = {
        "per_device_train_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.gradient_accumulation,
        "max_length": plan.max_length,
        "auto_find_batch_size": False,  # transformers' own would restart at step 0 and ignore accumulation
    }
    if plan.activation_offloading:
        keys["activation_offloading"] = True
    if plan.packing is not None:
        keys |= {"packing": plan.packing.packing, "train_sampling_strategy": plan.packing.sampling}
    return keys


def build_trainer(
    recipe: Recipe,
    args: SFTConfig,
    base: LoadedModel,
    reading: TrainingOrder,
    validation: Dataset,
    interrupts: Interrupts,
) -> OrderedTrainer:
    """Put an adapter on the base model and both into an SFTTrainer.

    The same seed gives the same training.

    Args:
        recipe: the run's recipe.
        args: the trainer's arguments, from `sft_config`.
        base: the model to adapt; its tokenizer is saved with the adapter.
        reading: training rows of `input_ids` and `labels`, and their order.
        validation: rows for evaluation, early stopping and the best checkpoint.
        interrupts: requests to stop.
    """
    set_seed(args.seed)  # the trainer seeds itself only after the adapter's weights are drawn
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(recipe.output_dir / "tensorboard")  # transformers 5 has no other key
    monitor = TrainingMonitor(recipe, interrupts, validation, base.tokenizer)
    callbacks: list[Any] = [
        *monitor.callbacks,
        SpikeCallback(interrupts),  # before InterruptCallback, which acts on its request
        InterruptCallback(interrupts),
        PrecisionCallback(base.dtype),
        NonFiniteCallback(),
        EstimateCallback(),
        FreedMemoryCallback(),
    ]
    if args.metric_for_best_model is not None and args.save_strategy != "no":
        callbacks.append(BestCallback())
    if recipe.run.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.run.early_stopping_patience))
    trainer = OrderedTrainer(
        reading,
        recipe.lora.loraplus_lr_ratio,
        monitor,
        model=base.model,
        args=args,
        train_dataset=reading.dataset,
        eval_dataset=validation,
        processing_class=base.tokenizer,
        peft_config=lora_variant(lora_config(base.model, model_config(recipe.model)), recipe.lora),
        callbacks=callbacks,
    )
    monitor.take_over(trainer)
    if recipe.run.early_stopping_patience is not None and not is_sharded():
        texts = general_items(base.tokenizer, args.max_length)
        if texts:
            clock = monitor.metrics.restart_clock
            trainer.add_callback(ForgettingCallback(trainer.log, texts, base.tokenizer, base.dtype, clock))
    _trainables_to_fp32(trainer.model)
    if recipe.lora.init_lora_weights == "eva" and latest_checkpoint(recipe.output_dir) is None:
        initialise_with_eva(trainer, reading.order)
    if not is_sharded():  # FSDP flattens weights of one dtype only
        spare_conversions(trainer.model, base.dtype)
    return trainer


def train(trainer: OrderedTrainer, interrupts: Interrupts) -> dict[str, Any]:
    """Train or resume, and save the result into the run directory; return the manifest's `training` entry.

    Raises:
        Interrupted: a signal asked to stop; a checkpoint is saved, and the same command resumes.
    """
    checkpoint = resumed = latest_checkpoint(Path(trainer.args.output_dir))
    interrupts.deferred = True
    with redirect_stdout(sys.stderr):  # the trainer prints its logs; stdout is for results
        while (result := _train_or_shrink(trainer, checkpoint)) is None:
            checkpoint = latest_checkpoint(Path(trainer.args.output_dir))
    interrupts.deferred = False
    interrupts.raise_if_requested()
    trainer.save_model()
    return training_summary(trainer, result.metrics, resumed)


def _train_or_shrink(trainer: OrderedTrainer, checkpoint: Path | None) -> Any:
    """Train to the end; return None if memory ran out, after saving the last step and reducing the micro-batch.

    Raises:
        UserError: memory ran out with a micro-batch of one row, or training diverged.
    """
    try:
        return trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except UserError:  # from NonFiniteCallback; transformers closes TensorBoard and the progress bar on success only
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        raise
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    release_memory()  # only here, where no traceback holds the tensors of the step any more
    trainer.model.zero_grad()
    if trainer.state.global_step:
        trainer._save_checkpoint(trainer.model, trial=None)
    smaller = step_down(trainer)
    if smaller is None or trainer.accelerator.num_processes > 1:
        raise UserError(
            f"memory ran out at step {trainer.state.global_step}, which is saved",
            "free some memory and run the same command again: it resumes; "
            f"or set `max_length` below {trainer.args.max_length} for a new `output_dir`",
        )
    logger.warning("memory ran out at step %d: continuing with %s", trainer.state.global_step, smaller)
    return None


def _trainables_to_fp32(model: torch.nn.Module) -> None:
    """Undo SFTTrainer's cast of a quantised model's trained weights to bf16.

    fp16's GradScaler cannot unscale bf16 gradients (trl #4901).
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()

"""Assemble and resume TRL's SFTTrainer."""

import json
import logging
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from safetensors import SafetensorError, safe_open
from transformers import EarlyStoppingCallback, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer

from blocklm.callbacks.best import BestCallback
from blocklm.callbacks.interrupt import InterruptCallback
from blocklm.callbacks.watchdog import WatchdogCallback, check_weights
from blocklm.errors import UserError
from blocklm.interrupts import Interrupts
from blocklm.model import lora_config
from blocklm.precision import Precision
from blocklm.preflight import free, out_of_memory, step_down
from blocklm.reading import InOrder, ReadingList
from blocklm.recipe import Recipe

logger = logging.getLogger(__name__)


def sft_config(recipe: Recipe, precision: Precision) -> SFTConfig:
    """The trainer's arguments: the recipe's keys, both precision flags and what early stopping needs.

    Raises:
        UserError: keys that do not go together, in the library's own words.
    """
    given = dict(recipe.training)
    if recipe.run.early_stopping_patience is not None:
        # Early stopping compares evaluations and must be able to return to the best of them.
        needed = {
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
        }
        given = needed | given
    given |= {"fp16": precision.fp16, "bf16": precision.bf16, "use_cpu": not torch.cuda.is_available()}
    given["logging_nan_inf_filter"] = False  # it would hide from the logs and the watchdog what went wrong
    # Samples arrive as token ids and labels within `max_length`, packed if they are to be: there is nothing to prepare.
    given["dataset_kwargs"] = {"skip_prepare_dataset": True}
    try:
        args = SFTConfig(**given)
    except ValueError as error:
        raise UserError(" ".join(str(error).split()), "correct these keys in the recipe") from error
    if args.metric_for_best_model is not None and args.save_total_limit == 1:
        args.save_total_limit = (
            2  # the best and the last: at 1 the trainer ends, when interrupted too, by deleting the last
        )
    return args


def build_trainer(
    recipe: Recipe,
    args: SFTConfig,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    reading: ReadingList,
    validation: Dataset,
    interrupts: Interrupts,
) -> SFTTrainer:
    """Put the adapter on the base and both into an SFTTrainer whose runs repeat under the same seed.

    Args:
        recipe: the run.
        args: what `sft_config` made of it.
        base: the model to adapt.
        tokenizer: its tokenizer; saved with the adapter.
        reading: rows of `input_ids` and `labels`, and the order in which they are read.
        validation: likewise rows; used for evaluation, early stopping and the best checkpoint.
        interrupts: where a wish to stop arrives.
    """
    set_seed(args.seed)  # the trainer seeds itself only after the adapter's weights are drawn
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(recipe.output_dir / "tensorboard")  # transformers 5 has no other key
    callbacks: list[Any] = [InterruptCallback(interrupts), WatchdogCallback()]
    if args.metric_for_best_model is not None and args.save_strategy != "no":
        callbacks.append(BestCallback())
    if recipe.run.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.run.early_stopping_patience))
    trainer = _OrderedTrainer(
        reading,
        model=base,
        args=args,
        train_dataset=reading.dataset,
        eval_dataset=validation,
        processing_class=tokenizer,
        peft_config=lora_config(base, ModelConfig(**recipe.model)),
        callbacks=callbacks,
    )
    _trainables_to_fp32(trainer.model)
    return trainer


class _OrderedTrainer(SFTTrainer):
    """Reads its rows in the order of a reading list, and saves only what can be gone on from."""

    def __init__(self, reading: ReadingList, **arguments: Any) -> None:
        self._reading = reading
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> InOrder:
        return InOrder(self._reading, lambda: self.state.epoch or 0.0)

    def _run_epoch(self, **arguments: Any) -> None:
        """Not after a resume from the last checkpoint: transformers 5.23 would train on, a step or to the next evaluation."""
        patience = [entry for entry in self.callback_handler.callbacks if isinstance(entry, EarlyStoppingCallback)]
        lost = any(entry.early_stopping_patience_counter >= entry.early_stopping_patience for entry in patience)
        if not lost and self.state.global_step < self.state.max_steps:
            super()._run_epoch(**arguments)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a checkpoint or the result; raises `UserError` if a trained weight is not finite."""
        check_weights((weight for weight in self.model.parameters() if weight.requires_grad), self.args, self.state)
        super().save_model(output_dir, _internal_call)

    def _save_rng_state(self, output_dir: str) -> None:
        """Every process writes its own; the main one may write `trainer_state.json` only when all have."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()


def train(trainer: SFTTrainer, interrupts: Interrupts) -> dict[str, Any]:
    """Train or resume, save the result into the run directory and return the manifest's `training` entry.

    Raises:
        Interrupted: a signal asked to stop; the checkpoint is saved and the same command resumes.
    """
    checkpoint = resumed = latest_checkpoint(Path(trainer.args.output_dir))
    interrupts.deferred = True
    with redirect_stdout(sys.stderr):  # the trainer prints its logs; stdout is for results
        while (result := _train_or_shrink(trainer, checkpoint)) is None:
            checkpoint = latest_checkpoint(Path(trainer.args.output_dir))
    interrupts.deferred = False
    interrupts.raise_if_requested()
    trainer.save_model()
    return _summary(trainer, result.metrics, resumed)


def _train_or_shrink(trainer: SFTTrainer, checkpoint: Path | None) -> Any:
    """Train to the end; None if memory ran out on the way, with the last step saved and a smaller micro-batch set.

    Raises:
        UserError: memory ran out with a micro-batch of one row, or training diverged.
    """
    try:
        return trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except UserError:  # the watchdog's: the trainer closes its curves and its progress bar only when it ends well
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        raise
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    free()  # only here, where no traceback holds the tensors of the step any more
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
    logger.warning("memory ran out at step %d: %s, and on from there", trainer.state.global_step, smaller)
    return None


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is whole; one torn by a kill or a full disk is passed over.

    The trainer writes `trainer_state.json` last, so a checkpoint that has it has everything.
    """
    found = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)


def _trainables_to_fp32(model: torch.nn.Module) -> None:
    """Undo SFTTrainer's cast of quantised models' trainables to bf16: fp16's GradScaler cannot unscale them (trl #4901)."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def _mean_loss(history: list[dict[str, float]]) -> float | None:
    """The loss over all steps, those before a resume too; each entry is the mean since the one before."""
    logged = [(int(entry["step"]), entry["loss"]) for entry in history if "loss" in entry]
    steps = [0, *(step for step, _ in logged)]
    total = sum(loss * (step - before) for (step, loss), before in zip(logged, steps, strict=False))
    return total / steps[-1] if logged else None


def _summary(trainer: SFTTrainer, metrics: dict[str, float], checkpoint: Path | None) -> dict[str, Any]:
    state, history = trainer.state, trainer.state.log_history
    norms = [entry["grad_norm"] for entry in history if "grad_norm" in entry]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    evaluations = [(entry["eval_loss"], entry["step"]) for entry in history if "eval_loss" in entry]
    best = min(evaluations, default=(None, None))
    seconds = metrics.get("train_runtime", 0.0)
    resumed = int(checkpoint.name.rpartition("-")[2]) if checkpoint else None
    return {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 4),
        "tokens_seen": int(state.num_input_tokens_seen),
        "tokens_per_second": round(state.num_input_tokens_seen / seconds, 2) if seconds and resumed is None else None,
        "train_loss": _mean_loss(history),
        "best_eval_loss": best[0],
        "best_step": best[1],
        "perplexity": float(torch.exp(torch.tensor(best[0]))) if best[0] is not None else None,
        "loss_history": [
            {
                key: entry[key]
                for key in ("step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm")
                if key in entry
            }
            for entry in history
            if "loss" in entry or "eval_loss" in entry
        ],
        "grad_norm": {"min": min(norms), "mean": sum(norms) / len(norms), "max": max(norms)} if norms else None,
        "learning_rate": {"peak": max(rates), "final": rates[-1]} if rates else None,
        "seed": trainer.args.seed,
        "processes": PartialState().num_processes,
        "micro_batch": trainer.args.per_device_train_batch_size,
        "gradient_accumulation": trainer.args.gradient_accumulation_steps,
        "resumed_from": resumed,
        "stopped_by": "early_stopping" if state.global_step < state.max_steps else "schedule",
    }

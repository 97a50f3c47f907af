"""Summarises a finished training for the manifest."""

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainerState
from trl import SFTTrainer

from blocklm.training.callbacks.forgetting import has_forgotten


def _mean_loss(history: list[dict[str, float]]) -> float | None:
    """Mean loss over all steps, also those before a resume; each logged loss is the mean since the log before."""
    logged = [(int(entry["step"]), entry["loss"]) for entry in history if "loss" in entry]
    steps = [0, *(step for step, _ in logged)]
    total = sum(loss * (step - before) for (step, loss), before in zip(logged, steps, strict=False))
    return total / steps[-1] if logged else None


def training_summary(trainer: SFTTrainer, metrics: dict[str, float], checkpoint: Path | None) -> dict[str, Any]:
    """Build the manifest's `training` entry.

    Args:
        trainer: the trainer after its last step.
        metrics: the metrics that `Trainer.train` returned.
        checkpoint: the checkpoint that the run resumed from; None if it did not resume.
    """
    state, history = trainer.state, trainer.state.log_history
    norms = [entry["grad_norm"] for entry in history if "grad_norm" in entry]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    evaluations = [(entry["eval_loss"], entry["step"]) for entry in history if "eval_loss" in entry]
    chosen = [(loss, step) for loss, step in evaluations if step == state.best_global_step]
    best = min(chosen or evaluations, default=(None, None))
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
        "optim": trainer.args.optim.value,
        "seed": trainer.args.seed,
        "processes": PartialState().num_processes,
        "micro_batch": trainer.args.per_device_train_batch_size,
        "gradient_accumulation": trainer.args.gradient_accumulation_steps,
        "resumed_from": resumed,
        "stopped_by": _stopped_by(state),
    }


def _stopped_by(state: TrainerState) -> str:
    if has_forgotten(state):
        return "forgetting"
    return "early_stopping" if state.global_step < state.max_steps else "schedule"

"""Runs the largest steps of a recipe for real, with random weights and rows of full length, and measures them."""

import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import torch
from datasets import Dataset
from transformers import PretrainedConfig, PreTrainedModel, TrainerCallback

from blocklm.config.recipe import Recipe
from blocklm.interrupts import Interrupts
from blocklm.models.attention import only_kernel
from blocklm.models.likelihood import BATCH_TOKENS
from blocklm.models.loaded import LoadedModel
from blocklm.models.source import ModelSource
from blocklm.training.data_order import TrainingOrder
from blocklm.training.measuring.allocator import (
    Meter,
    Peaks,
    bytes_of,
    held_tensors,
    meter_of_device,
    optimizer_tensors,
)
from blocklm.training.measuring.other_steps import Sizes, measure_other_steps
from blocklm.training.measuring.random_base import byte_tokenizer, random_base
from blocklm.training.measuring.train_steps import READ, TIMED, Clock, PhaseCallback
from blocklm.training.planning.device import device_name
from blocklm.training.planning.measurement import Measurement, Speeds
from blocklm.training.planning.micro_batch import Plan
from blocklm.training.planning.planner import decide_packing
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.planning.step_memory import StepMemory
from blocklm.training.train import build_trainer, sft_config
from blocklm.training.trainer import OrderedTrainer

DOCUMENTS = 4  # in a packed row
# Keys of a recipe that would let the few steps do more than train: write files, evaluate, log, stop.
ONLY_STEPS: dict[str, Any] = {
    "max_steps": TIMED, "eval_strategy": "no", "save_strategy": "no", "logging_strategy": "no", "report_to": [],
    "load_best_model_at_end": False, "metric_for_best_model": None, "push_to_hub": False, "disable_tqdm": True,
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What is measured.

    Attributes:
        recipe: the run's recipe.
        config: the model's architecture.
        source: keys and precision of the base model, whose files are not read.
        plan: the planned sizes.
        kernel: the attention kernel that must run, one of `attention.KERNELS`; None to leave it to PyTorch.
        limit: bytes at which the allocator is capped, or with which the peak is compared; None without a limit.
    """

    recipe: Recipe
    config: PretrainedConfig
    source: ModelSource
    plan: Plan
    kernel: str | None = None
    limit: int | None = None


def measure(trial: Trial) -> Measurement:
    """Build the model with random weights and run its largest steps: train, evaluation, exam and answers.

    Raises:
        UserError: the model cannot be set up with these keys, or the kernel cannot run.
        RuntimeError: memory ran out; see `preflight.out_of_memory`.
    """
    with tempfile.TemporaryDirectory(prefix="blocklm-measure-") as folder, redirect_stdout(sys.stderr):
        trainer, packed = _trainer(trial, folder)
        with only_kernel(trial.kernel):
            parts, clock = _measure_training(trainer, meter_of_device())
            others = measure_other_steps(trainer, meter_of_device(), _sizes(trial), trial.source.precision.dtype)
    speeds = Speeds(
        clock.micro_seconds, clock.optimizer_seconds, others.read, others.prompt, others.written, clock.watts
    )
    reserved, context = _beside_tensors()
    return Measurement(
        device=device_name(),
        kernel=trial.kernel,
        dtype=str(trial.source.precision.dtype).removeprefix("torch."),
        micro_batch=trial.plan.micro_batch,
        accumulation=trial.plan.gradient_accumulation,
        length=trial.plan.max_length,
        packed=packed,
        planned=trial.plan.memory,
        measured=parts,
        evaluation=others.evaluation,
        exam=others.exam,
        answers=others.answers,
        reserved=reserved,
        context=context,
        speeds=speeds,
        limit=trial.limit,
        day=f"{datetime.now(UTC):%Y-%m-%d}",
    )


def _trainer(trial: Trial, folder: str) -> tuple[OrderedTrainer, bool]:
    """Build the run's own trainer around a base of random weights; return whether its rows are packed, too."""
    recipe, plan = trial.recipe, trial.plan
    recipe = replace(
        recipe,
        training={**recipe.training, **ONLY_STEPS, "output_dir": folder},
        run=replace(recipe.run, early_stopping_patience=None),
        watch=replace(recipe.watch, hardware_interval=0),
        lora=replace(recipe.lora, init_lora_weights=None),
    )
    precision = trial.source.precision
    base = random_base(trial.config, trial.source.config, precision, trial.source.trust_remote_code)
    run_plan = RunPlan(
        plan.micro_batch,
        min(2, plan.gradient_accumulation),  # in the second pass the gradients are there, as in every later one
        plan.max_length,
        (),
        precision.entry(),
        activation_offloading=plan.activation_offloading,
    )
    run_plan = decide_packing(run_plan, recipe, base)
    args = sft_config(recipe, precision, run_plan)
    documents = DOCUMENTS if args.packing else 1
    rows = full_rows(args.train_batch_size * args.gradient_accumulation_steps * TIMED, plan.max_length, documents)
    validation = full_rows(args.per_device_eval_batch_size, plan.max_length, 1)
    reading = TrainingOrder(rows, list(range(len(rows))), len(rows), {})
    loaded = LoadedModel(_with_tokens(base), byte_tokenizer(), precision.dtype)
    trainer = build_trainer(recipe, args, loaded, reading, validation, Interrupts())
    for callback in (trainer.monitor.hardware, trainer.monitor.progress, trainer.monitor.stall):
        trainer.remove_callback(callback)
    return trainer, bool(args.packing)


def _with_tokens(base: PreTrainedModel) -> PreTrainedModel:
    """Give a model the special tokens of the byte tokenizer, which the trainer would do with a message."""
    for config in (base.config, base.generation_config):
        config.bos_token_id, config.eos_token_id, config.pad_token_id = None, 0, 0
    return base


def full_rows(count: int, length: int, documents: int) -> Dataset:
    """Make rows of `length` tokens, all of them targets; with several documents, as TRL packs them."""
    tokens = [[1 + place % 255 for place in range(length)]] * count
    columns: dict[str, Any] = {"input_ids": tokens, "labels": tokens}
    if documents > 1:
        sizes = [length // documents] * (documents - 1)
        columns["seq_lengths"] = [[*sizes, length - sum(sizes)]] * count
    return Dataset.from_dict(columns)


def _measure_training(trainer: OrderedTrainer, meter: Meter) -> tuple[StepMemory, Clock]:
    """Train a few steps twice: once to read the allocator, once to read the clock."""
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    adapter = bytes_of(trained)
    weights = bytes_of(held_tensors(trainer.model)) - adapter
    with meter.recording(held_tensors(trainer.model)) as peaks:
        callback = PhaseCallback(meter, trainer.model)
        _train(trainer, READ, callback)
    clock = Clock()
    _train(trainer, TIMED, clock)
    state = bytes_of(optimizer_tensors(trainer.optimizer))
    held = StepMemory(weights, adapter, callback.gradients, state, activations=0, loss=0)
    return _parts(peaks, held), clock


def _train(trainer: OrderedTrainer, steps: int, observer: TrainerCallback) -> None:
    trainer.args.max_steps = steps
    trainer.add_callback(observer)
    trainer.train()
    trainer.remove_callback(observer)


def _parts(peaks: Peaks, held: StepMemory) -> StepMemory:
    """Divide the peak of the last step, when the optimizer's state exists, among the parts of a step.

    Args:
        peaks: the peaks of each step's phases.
        held: bytes of what is there when activations are at their peak.
    """
    backbone, loss, stepping = (peaks[f"{READ} {name}"] for name in ("backbone", "loss", "optimizer"))
    return replace(
        held,
        optimizer=held.optimizer + max(0, stepping - max(backbone, loss)),
        activations=max(0, backbone - held.total),
        loss=max(0, loss - max(backbone, held.total)),
    )


def _sizes(trial: Trial) -> Sizes:
    """The sizes of the exam's batches and of the answers, as long as the recipe lets them become."""
    recipe, length = trial.recipe, trial.plan.max_length
    longest = length
    if any("+" in arm and arm.partition("+")[2] in ("bm25", "hybrid") for arm in recipe.exam.exam_arms):
        longest += recipe.exam.exam_context_tokens
    positions = getattr(trial.config.get_text_config(), "max_position_embeddings", None)
    return Sizes(
        exam_rows=max(1, BATCH_TOKENS // min(longest, positions or longest)),
        exam_length=min(longest, positions or longest),
        prompt=max(1, length - recipe.behaviour.behavioral_max_new_tokens),
        answers=max(1, recipe.behaviour.behavioral_items),
        written=recipe.behaviour.behavioral_max_new_tokens,
    )


def _beside_tensors() -> tuple[int | None, int | None]:
    """The bytes that the allocator took from the GPU, and those that driver and kernels took beside it."""
    if not torch.cuda.is_available():
        return None, None
    free, total = torch.cuda.mem_get_info()
    reserved = torch.cuda.memory_reserved()
    return reserved, max(0, total - free - reserved)

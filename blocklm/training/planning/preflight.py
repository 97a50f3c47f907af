"""Proves before step 0 that the largest steps of a run fit into memory, and makes them smaller where they do not.

Without it, a run could meet its longest samples after two hours and end out of memory. Here they are read once before
the first step, without learning from them: gradients and random numbers are restored afterwards.
"""

import gc
import logging
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from accelerate.utils import reduce
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset
from trl import SFTTrainer

from blocklm.errors import UserError
from blocklm.models.savable import rehearse_saving
from blocklm.training.callbacks.generation_samples import SamplesCallback
from blocklm.training.fused_head import labelled_positions_only

logger = logging.getLogger(__name__)


class DoesNotFit(RuntimeError):
    """Not even one row of the run's length fits."""


def fit(trainer: SFTTrainer, optimizer_bytes: int, exam_tokens: int) -> list[str]:
    """Run the longest train step, evaluation step, exam batch and answers once; halve the micro-batch until they fit.

    Args:
        trainer: a trainer before its first step; its batch arguments are changed as needed.
        optimizer_bytes: bytes of the optimizer's state.
        exam_tokens: tokens whose logits the exam holds at once; 0 without an exam.

    Returns:
        The changes with their reasons, one sentence each.

    Raises:
        DoesNotFit: a micro-batch of one row is too large.
        UserError: the trained model cannot be saved.
    """
    rehearse_save(trainer)
    changed: list[str] = []
    while not _fits(trainer, optimizer_bytes, exam_tokens):
        if not (smaller := step_down(trainer)):
            raise DoesNotFit(f"a row of {trainer.args.max_length} tokens does not fit into memory")
        changed.append(f"{smaller}: the longest rows did not fit")
        logger.warning(changed[-1])
    return changed


def rehearse_save(trainer: SFTTrainer) -> None:
    """Save once, into a temporary folder, everything that a checkpoint holds but the base's weights.

    Raises:
        UserError: it cannot be saved, which after training would lose the result.
    """
    if not trainer.args.should_save:
        return
    run_dir = Path(trainer.args.output_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run_dir, prefix=".rehearsal-") as folder:
        try:
            rehearse_saving(trainer.accelerator.unwrap_model(trainer.model), folder)
            trainer.processing_class.save_pretrained(folder)
            torch.save(trainer.args, Path(folder, "training_args.bin"))
        except (OSError, RuntimeError):  # a full disk and memory that runs out are reported elsewhere
            raise
        except Exception as error:  # from any of three libraries
            raise UserError(
                f"what is trained could not be saved: {' '.join(str(error).split())[:300]}",
                "correct the files of the model in `model_name_or_path`, or take another copy of it",
            ) from error


def step_down(trainer: SFTTrainer) -> str | None:
    """Reduce the micro-batch to half or less while keeping the effective batch.

    Returns:
        A description of the change; None if the micro-batch is one row already.
    """
    args = trainer.args
    micro = args.per_device_train_batch_size
    effective = micro * args.gradient_accumulation_steps
    smaller = next((batch for batch in range(micro // 2, 0, -1) if effective % batch == 0), None)
    if smaller is None:
        return None
    args.per_device_train_batch_size, args.gradient_accumulation_steps = smaller, effective // smaller
    trainer._train_batch_size = args.train_batch_size  # transformers' copies from when the trainer was built
    return f"micro-batch {smaller} instead of {micro}, accumulation {effective // smaller}"


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, Exception) and bool(should_reduce_batch_size(error))


def release_memory() -> None:
    """Free the memory that a failed step has left behind."""
    gc.collect()
    clear_device_cache()


def _fits(trainer: SFTTrainer, optimizer_bytes: int, exam_tokens: int) -> bool:
    try:
        with _without_side_effects(trainer):
            _largest_steps(trainer, optimizer_bytes, exam_tokens)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    release_memory()  # only here, where no traceback holds the tensors any more
    everywhere: torch.Tensor = reduce(torch.tensor(float(fits), device=trainer.args.device), "sum")
    return int(everywhere) == int(trainer.accelerator.num_processes)


def _largest_steps(trainer: SFTTrainer, optimizer_bytes: int, exam_tokens: int) -> None:
    args, model = trainer.args, trainer.model
    device = args.device
    if args.gradient_checkpointing:  # as the trainer does when it begins
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    dtype = torch.float16 if args.fp16 else torch.bfloat16
    state = torch.empty(optimizer_bytes, dtype=torch.uint8, device=device)
    with trainer.maybe_activation_offload_context:  # as in a step of the trainer
        with torch.autocast(device.type, dtype, enabled=args.fp16 or args.bf16):
            model.train()
            rows = _longest(trainer.train_dataset, args.per_device_train_batch_size)
            loss = _loss(trainer, rows)
        loss.backward()  # type: ignore[no-untyped-call]
    del loss
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=args.fp16 or args.bf16):
        model.eval()
        _loss(trainer, _longest(trainer.eval_dataset, args.per_device_eval_batch_size))
        if exam_tokens:
            shape = max(1, exam_tokens // args.max_length), args.max_length  # no longer than the model's positions
            model(input_ids=torch.zeros(shape, dtype=torch.long, device=device), use_cache=False)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, SamplesCallback):
            callback.rehearse(model)
    del state


def _loss(trainer: SFTTrainer, rows: list[dict[str, Any]]) -> torch.Tensor:
    """Compute the trainer's loss without its metrics, which all processes would have to gather."""
    batch = {
        name: values.to(trainer.args.device) if isinstance(values, torch.Tensor) else values
        for name, values in trainer.data_collator(rows).items()
    }
    with labelled_positions_only():
        loss: torch.Tensor = trainer.model(**batch, fused_lm_head=True, num_items_in_batch=torch.ones(())).loss
    return loss


def _longest(rows: Dataset, count: int) -> list[dict[str, Any]]:
    lengths = pc.list_value_length(rows.data.table["input_ids"]).to_numpy()
    if rows._indices is not None:
        lengths = lengths[rows._indices.column(0).to_numpy()]
    return [rows[int(row)] for row in np.argsort(-lengths, kind="stable")[:count]]


@contextmanager
def _without_side_effects(trainer: SFTTrainer) -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpu_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        trainer.model.zero_grad(set_to_none=True)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if gpu_states:
            torch.cuda.set_rng_state_all(gpu_states)

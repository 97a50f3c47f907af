"""Prove, before step 0, that the largest steps of a run fit into memory; and make them smaller where they do not.

A run that ends in out-of-memory after two hours met its longest samples late. They are read first here, once, with nothing
learnt from them: gradients and random numbers are as they were.
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

logger = logging.getLogger(__name__)


class DoesNotFit(RuntimeError):
    """Not even one row of the run's length fits."""


def fit(trainer: SFTTrainer, optimizer_bytes: int, asked_tokens: int) -> list[str]:
    """Run the longest train step, evaluation step, exam question and answers once; halve the micro-batch until they fit.

    Args:
        trainer: ready to train; its arguments are changed where they must.
        optimizer_bytes: what the optimizer's state will take.
        asked_tokens: tokens whose logits the exam holds at once; 0 without an exam.

    Returns:
        What was changed, and why.

    Raises:
        DoesNotFit: a micro-batch of one row is too large.
        UserError: what is trained cannot be saved.
    """
    rehearse_save(trainer)
    changed: list[str] = []
    while not _fits(trainer, optimizer_bytes, asked_tokens):
        if not (smaller := step_down(trainer)):
            raise DoesNotFit(f"a row of {trainer.args.max_length} tokens does not fit into memory")
        changed.append(f"{smaller}: the longest rows did not fit")
        logger.warning(changed[-1])
    return changed


def rehearse_save(trainer: SFTTrainer) -> None:
    """Save once, in a folder that goes again, all that a checkpoint holds but the base's weights.

    Raises:
        UserError: it cannot be saved; found after training, that would lose it.
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
        except (OSError, RuntimeError):  # a full disk and memory that runs out have words of their own
            raise
        except Exception as error:  # of any of three libraries
            raise UserError(
                f"what is trained could not be saved: {' '.join(str(error).split())[:300]}",
                "mend the files of the model in `model_name_or_path`, or take another copy of it",
            ) from error


def step_down(trainer: SFTTrainer) -> str | None:
    """Halve the micro-batch, or as near as keeps the effective batch; says so, or None at a batch of one row."""
    args = trainer.args
    micro = args.per_device_train_batch_size
    effective = micro * args.gradient_accumulation_steps
    smaller = next((batch for batch in range(micro // 2, 0, -1) if effective % batch == 0), None)
    if smaller is None:
        return None
    args.per_device_train_batch_size, args.gradient_accumulation_steps = smaller, effective // smaller
    trainer._train_batch_size = args.train_batch_size  # what transformers read of it when the trainer was made
    return f"micro-batch {smaller} instead of {micro}, accumulation {effective // smaller}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, Exception) and bool(should_reduce_batch_size(error))


def release_memory() -> None:
    """Give back what a step that failed has left."""
    gc.collect()
    clear_device_cache()


def _fits(trainer: SFTTrainer, optimizer_bytes: int, asked_tokens: int) -> bool:
    try:
        with _nothing_learnt(trainer):
            _largest_steps(trainer, optimizer_bytes, asked_tokens)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        fits = False
    else:
        fits = True
    release_memory()  # only here, where no traceback holds the tensors any more
    everywhere: torch.Tensor = reduce(torch.tensor(float(fits), device=trainer.args.device), "sum")
    return int(everywhere) == int(trainer.accelerator.num_processes)


def _largest_steps(trainer: SFTTrainer, optimizer_bytes: int, asked_tokens: int) -> None:
    args, model = trainer.args, trainer.model
    device = args.device
    if args.gradient_checkpointing:  # the trainer itself does so when it begins
        model.gradient_checkpointing_enable(args.gradient_checkpointing_kwargs)
    dtype = torch.float16 if args.fp16 else torch.bfloat16
    state = torch.empty(optimizer_bytes, dtype=torch.uint8, device=device)
    with torch.autocast(device.type, dtype, enabled=args.fp16 or args.bf16):
        model.train()
        rows = _longest(trainer.train_dataset, args.per_device_train_batch_size)
        loss = _loss(trainer, rows)
    loss.backward()  # type: ignore[no-untyped-call]
    del loss
    with torch.no_grad(), torch.autocast(device.type, dtype, enabled=args.fp16 or args.bf16):
        model.eval()
        _loss(trainer, _longest(trainer.eval_dataset, args.per_device_eval_batch_size))
        if asked_tokens:
            shape = max(1, asked_tokens // args.max_length), args.max_length  # no longer than the model's positions
            model(input_ids=torch.zeros(shape, dtype=torch.long, device=device), use_cache=False)
    for asks in (one for one in trainer.callback_handler.callbacks if isinstance(one, SamplesCallback)):
        asks.rehearse(model)
    del state


def _loss(trainer: SFTTrainer, rows: list[dict[str, Any]]) -> torch.Tensor:
    """The trainer's loss without its metrics, which all processes would have to gather."""
    batch = {
        name: values.to(trainer.args.device) if isinstance(values, torch.Tensor) else values
        for name, values in trainer.data_collator(rows).items()
    }
    loss: torch.Tensor = trainer.model(**batch, fused_lm_head=True, num_items_in_batch=torch.ones(())).loss
    return loss


def _longest(rows: Dataset, count: int) -> list[dict[str, Any]]:
    lengths = pc.list_value_length(rows.data.table["input_ids"]).to_numpy()
    if rows._indices is not None:
        lengths = lengths[rows._indices.column(0).to_numpy()]
    return [rows[int(at)] for at in np.argsort(-lengths, kind="stable")[:count]]


@contextmanager
def _nothing_learnt(trainer: SFTTrainer) -> Iterator[None]:
    drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    try:
        yield
    finally:
        trainer.model.zero_grad(set_to_none=True)
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        torch.set_rng_state(drawn[2])
        if on_gpu:
            torch.cuda.set_rng_state_all(on_gpu)

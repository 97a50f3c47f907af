"""Measures the cost of callbacks: the same steps without any, with transformers' own and with all of BlockLM's."""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM
from transformers.integrations import TensorBoardCallback
from transformers.trainer_callback import DefaultFlowCallback
from trl import SFTTrainer

from blocklm.config.recipe import parse_recipe
from blocklm.interrupts import Interrupts
from blocklm.models.loaded import LoadedModel
from blocklm.models.precision import choose_precision
from blocklm.models.pretrained import load_config, load_tokenizer, model_config
from blocklm.training.data_order import TrainingOrder
from blocklm.training.monitoring.nvml import Gpus, NoGpus
from blocklm.training.monitoring.system import Machine
from blocklm.training.train import build_trainer, sft_config

RECIPE = "recipes/quickstart.yaml"
STEPS, ROWS, LENGTH = 20, 2, 32
LAYERS = 2  # of the recipe's model, untrained: callbacks are a larger share of such short steps than of any real one
SAMPLES = 200


def callbacks_table(rounds: int) -> Iterator[str]:
    """Yield the lines of a table; every step is logged, and the rounds of the three arms are interleaved.

    Args:
        rounds: number of rounds of each arm whose median is taken, after one round to warm up.
    """
    runs: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
        trainers = {name: make(_trainer(Path(folder) / name)) for name, make in ARMS.items()}
        for number in range(rounds + 1):
            for name, trainer in trainers.items():
                wall, processor = time.perf_counter(), time.process_time()
                with redirect_stdout(sys.stderr):  # where transformers' callbacks print
                    trainer.train()
                taken = (time.perf_counter() - wall) / STEPS, (time.process_time() - processor) / STEPS
                if number:
                    runs.setdefault(name, []).append(taken)
        interval = trainers["BlockLM's"].monitor.hardware.usage()["interval_seconds"]
    medians = {name: [statistics.median(part) for part in zip(*some, strict=True)] for name, some in runs.items()}
    yield (
        f"{LAYERS} layers of {RECIPE}'s model, steps of {ROWS} x {LENGTH} tokens, each logged, median of {rounds} rounds of "
        f"{STEPS} steps"
    )
    yield f"  {'callbacks':16s} {'ms a step':>10s} {'/ none':>8s} {'CPU ms':>10s} {'/ none':>8s}"
    none = medians["none"]
    for name, (seconds, processor) in medians.items():
        in_time = f"{1000 * seconds:10.1f} {seconds / none[0]:8.3f}"
        yield f"  {name:16s} {in_time} {1000 * processor:10.1f} {processor / none[1]:8.3f}"
    cost = _sample_cost()
    share = 100 * cost / interval
    yield f"  one sample of the hardware: {1000 * cost:.2f} ms of CPU, {share:.3f} % of a core every {interval:g} s"


def _trainer(run: Path) -> SFTTrainer:
    given = {
        "output_dir": run, "max_steps": STEPS, "logging_steps": 1, "save_strategy": "no", "eval_strategy": "no",
        "per_device_train_batch_size": ROWS, "gradient_accumulation_steps": 1, "max_length": LENGTH,
    }  # fmt: skip
    recipe = parse_recipe([RECIPE, *(word for key, value in given.items() for word in (f"--{key}", str(value)))])
    precision, keys = choose_precision(None, False), model_config(recipe.model)
    ids = np.random.default_rng(0).integers(100, 10_000, (ROWS * STEPS, LENGTH)).tolist()
    rows = Dataset.from_dict({"input_ids": ids, "labels": ids})
    reading = TrainingOrder(rows, list(range(len(rows))), len(rows), {})
    args, tokenizer = sft_config(recipe, precision), load_tokenizer(keys)
    shape = load_config(keys)
    shape.num_hidden_layers = LAYERS
    base = LoadedModel(AutoModelForCausalLM.from_config(shape), tokenizer, precision.dtype)
    return build_trainer(recipe, args, base, reading, rows, Interrupts())


def _bare(trainer: SFTTrainer) -> SFTTrainer:
    """Remove all callbacks, as TRL without any."""
    trainer.callback_handler.callbacks = [DefaultFlowCallback()]
    for method in ("compute_loss", "log"):
        setattr(trainer, method, getattr(SFTTrainer, method).__get__(trainer))
    return trainer


def _library(trainer: SFTTrainer) -> SFTTrainer:
    """Use transformers' progress bar and TensorBoard only."""
    bare = _bare(trainer)
    for callback in (transformers.ProgressCallback, TensorBoardCallback):
        bare.add_callback(callback)
    return bare


ARMS: dict[str, Callable[[SFTTrainer], SFTTrainer]] = {
    "none": _bare,
    "transformers'": _library,
    "BlockLM's": lambda trainer: trainer,
}


def _sample_cost() -> float:
    """Measure the CPU seconds of one sample of all hardware sources."""
    sources: list[Callable[[], dict[str, Any]]] = [Machine(Path()).sample]
    with suppress(NoGpus):
        sources.append(Gpus().sample)
    started = time.thread_time()
    for _ in range(SAMPLES):
        for source in sources:
            source()
    return (time.thread_time() - started) / SAMPLES

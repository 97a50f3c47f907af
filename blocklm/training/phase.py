"""The training phase up to its first step: a trainer whose largest steps are known to fit, and the plan that it follows."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.interrupts import Interrupts
from blocklm.models.adapter import put_adapter
from blocklm.models.source import ModelSource
from blocklm.runs.continuation import Previous
from blocklm.training.callbacks.generation_samples import add_samples
from blocklm.training.data import TrainingData, training_data
from blocklm.training.planning.planner import decide_packing, prove_plan, shorter_plan, unpack, with_length
from blocklm.training.planning.preflight import DoesNotFit, release_memory
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.train import build_trainer, sft_config

if TYPE_CHECKING:
    from blocklm.corpus.build import Corpus


@dataclass(frozen=True)
class TrainingTask:
    """What is to be trained, and on what.

    Attributes:
        recipe: the run.
        source: its base model.
        tokenizer: the model's.
        corpus: the samples.
        new: for each training sample whether a top-up is for it; None where all are read alike.
        previous: the run to go on from; None for one that begins anew.
        processes: the processes that share the work.
        interrupts: where a wish to stop arrives.
    """

    recipe: Recipe
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    corpus: "Corpus"
    new: NDArray[np.bool_] | None
    previous: Previous | None
    processes: PartialState
    interrupts: Interrupts


@dataclass(frozen=True)
class Fitted:
    """A trainer that is ready to begin, the plan that it follows and what it reads."""

    trainer: SFTTrainer
    plan: RunPlan
    data: TrainingData


def fit_trainer(task: TrainingTask, plan: RunPlan) -> Fitted:
    """Build the trainer and run its largest steps once, with shorter rows until they fit.

    Raises:
        UserError: nothing shorter is left to try, or no sample may be read.
    """
    while True:
        found = _build(task, plan)
        try:
            return replace(found, plan=prove_plan(found.plan, found.trainer, task.recipe.exam.exam))
        except DoesNotFit as error:
            plan = shorter_plan(found.plan, error, task.recipe)
        del found  # only here, where no traceback holds the tensors any more
        release_memory()


def _build(task: TrainingTask, plan: RunPlan) -> Fitted:
    recipe, previous, precision = task.recipe, task.previous, task.source.precision
    adapts = task.source.config.use_peft
    # A whole model goes on as the previous run left it; an adapter is put on the base that the trainer has made ready.
    start = task.source.base() if previous is None or adapts else task.source.tuned(previous.path)
    plan = decide_packing(plan, recipe, start)
    with task.processes.main_process_first():
        data, plan = _read(task, plan)
    args = sft_config(recipe, precision, plan, data.reading.epochs)
    tokenizer, rows = task.tokenizer, data.validation.dataset
    trainer = build_trainer(recipe, args, start, tokenizer, data.reading, rows, task.interrupts, precision)
    if previous is not None and adapts:
        put_adapter(trainer.model, previous.path)
    asked, prompts = task.corpus.splits["validation"], task.corpus.report["prompts"]
    add_samples(trainer, asked, prompts, tokenizer, recipe, precision.dtype)
    return Fitted(trainer, plan, data)


def _read(task: TrainingTask, plan: RunPlan) -> tuple[TrainingData, RunPlan]:
    """Encode what is read; a second time where packing, once its rows are known, does not pay."""

    def encoded(plan: RunPlan) -> tuple[TrainingData, SFTConfig]:
        args = sft_config(task.recipe, task.source.precision, plan)
        count = task.processes.num_processes
        return training_data(task.corpus, task.tokenizer, task.recipe, args, count, task.new), args

    data, args = encoded(plan)
    if (unpacked := unpack(plan, task.recipe, data.reading.report["utilisation"])) is not None:
        plan = unpacked
        data, args = encoded(plan)
    return data, with_length(plan, data.reading, args, task.processes.num_processes)

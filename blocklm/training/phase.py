"""Prepares a training up to its first step: a trainer whose largest steps fit into memory, and the plan it follows."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.interrupts import Interrupts
from blocklm.models.adapter import put_adapter
from blocklm.models.loaded import LoadedModel
from blocklm.models.source import ModelSource
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.runs.top_up import Previous
from blocklm.training.callbacks.generation_samples import add_samples
from blocklm.training.data import TrainingData, training_data
from blocklm.training.planning.planner import decide_packing, prove_plan, shorter_plan, turn_packing_off, with_steps
from blocklm.training.planning.preflight import DoesNotFit, release_memory
from blocklm.training.planning.run_plan import RunPlan
from blocklm.training.train import build_trainer, sft_config
from blocklm.training.trainer import OrderedTrainer

if TYPE_CHECKING:
    from blocklm.corpus.build import Corpus


@dataclass(frozen=True)
class TrainingTask:
    """The model to train and the samples to train it on.

    Attributes:
        recipe: the run's recipe.
        source: the base model.
        tokenizer: the base model's tokenizer.
        corpus: the samples of all splits.
        new: mask of the training samples that a top-up adds; None if the run is no top-up.
        previous: the run to continue; None if training starts from the base model.
        processes: the processes that share the work.
        interrupts: requests to stop.
    """

    recipe: Recipe
    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    corpus: "Corpus"
    new: NDArray[np.bool_] | None
    previous: Previous | None
    processes: PartialState
    interrupts: Interrupts

    @property
    def encoder(self) -> SampleEncoder:
        """Encodes the corpus with the model's tokenizer."""
        return SampleEncoder(self.tokenizer, self.corpus.folder, self.corpus.places.fill, self.corpus.report["key"])


@dataclass(frozen=True)
class FittedTrainer:
    """A trainer that is ready to start, the plan it follows and the data it reads."""

    trainer: OrderedTrainer
    plan: RunPlan
    data: TrainingData


def fit_trainer(task: TrainingTask, plan: RunPlan) -> FittedTrainer:
    """Build the trainer and run its largest steps once, with shorter rows until they fit.

    Raises:
        UserError: no shorter length is left to try, or no sample may be read.
    """
    while True:
        fitted = _build(task, plan)
        try:
            return replace(fitted, plan=prove_plan(fitted.plan, fitted.trainer, task.recipe.exam.exam))
        except DoesNotFit as error:
            plan = shorter_plan(fitted.plan, error, task.recipe)
        del fitted  # only here, where no traceback holds the tensors any more
        release_memory()


def _build(task: TrainingTask, plan: RunPlan) -> FittedTrainer:
    recipe, previous, precision = task.recipe, task.previous, task.source.precision
    uses_adapter = task.source.config.use_peft
    # Without an adapter, training starts from the previous run's model. With one, from the base: the previous
    # run's adapter is loaded once the trainer has prepared the base.
    start = task.source.base() if previous is None or uses_adapter else task.source.tuned(previous.path)
    plan = decide_packing(plan, recipe, start)
    with task.processes.main_process_first():
        data, plan = _read(task, plan)
    args = sft_config(recipe, precision, plan, data.reading.epochs)
    base = LoadedModel(start, task.tokenizer, precision.dtype)
    trainer = build_trainer(recipe, args, base, data.reading, data.validation.dataset, task.interrupts)
    if previous is not None and uses_adapter:
        put_adapter(trainer.model, previous.path)
    add_samples(trainer, task.corpus.splits["validation"], task.encoder, recipe, precision.dtype)
    return FittedTrainer(trainer, plan, data)


def _read(task: TrainingTask, plan: RunPlan) -> tuple[TrainingData, RunPlan]:
    """Encode the samples; again without packing if the packed rows turn out too empty."""

    def encode_data(plan: RunPlan) -> tuple[TrainingData, SFTConfig]:
        args = sft_config(task.recipe, task.source.precision, plan)
        return training_data(task.corpus, task.encoder, task.recipe, args, task.new), args

    data, args = encode_data(plan)
    if (unpacked := turn_packing_off(plan, task.recipe, data.reading.report["utilisation"])) is not None:
        plan = unpacked
        data, args = encode_data(plan)
    return data, with_steps(plan, data.reading, args, task.processes.num_processes)

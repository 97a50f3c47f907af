"""Asks the model fixed questions during training, and keeps its answers."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState
from transformers.integrations import TensorBoardCallback
from trl import SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.evaluation.generation_eval import Answer, ask, read_rows, write_rows
from blocklm.evaluation.questions import GenerationTask, generation_tasks, prompt_tasks
from blocklm.evaluation.scoring import by_task
from blocklm.models.distributed import is_sharded
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import rehearse
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.training.trainer import OrderedTrainer

logger = logging.getLogger(__name__)


class SamplesCallback(TrainerCallback):
    """Asks before the first step, at each evaluation or every `epochs` epochs, and at the last step; once per step.

    The training is exactly the same as without it. Several processes share the questions. If an evaluation fails,
    mostly for lack of memory, a warning is logged and the evaluation left out. A resume removes the rows of later steps
    from `samples.jsonl`; they are written again.

    Logs to TensorBoard only: for each task the means `behaviour/TASK/SCORE` of the scores from
    `blocklm.evaluation.scoring`, which are `exact_match`, `edit_similarity`, `ended` (shares, 0 to 1), `identifier_f1`,
    `parse_valid`, `copy_floor`, `gain` and `chrf` (0 to 100); and the texts `behaviour/TASK/ITEM`.

    Args:
        trainer: the observed trainer, whose TensorBoard writer is used.
        questions: the questions.
        decoding: length, temperature and seed of the answers.
        dtype: dtype of the matrix products.
        epochs: number of epochs between two rounds of questions; None to ask at each evaluation.
        restart_clock: called after each round, so that the time of answering is not counted as training.
    """

    def __init__(
        self,
        trainer: SFTTrainer,
        questions: list[GenerationTask],
        decoding: Decoding,
        dtype: torch.dtype,
        epochs: float | None,
        restart_clock: Callable[[], None],
    ) -> None:
        self._trainer, self._questions, self._decoding, self._dtype = trainer, questions, decoding, dtype
        self._epochs, self._restart_clock = epochs, restart_clock
        self._run_dir = Path(trainer.args.output_dir)
        self._rows: list[dict[str, Any]] = []
        self._asked_steps: set[int] = set()
        self._rounds = 0
        self._stopping = False

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs: Any
    ) -> None:
        """Load the answers up to this step, or ask before the first step."""
        if PartialState().is_main_process:
            rows = read_rows(self._run_dir) if state.global_step else []
            self._rows = [row for row in rows if row["step"] <= state.global_step]
            write_rows(self._run_dir, self._rows)
        self._asked_steps = set(broadcast_object_list([{row["step"] for row in self._rows}])[0])
        self._rounds = self._round(state)
        if not state.global_step:
            self._ask(model, state)

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs: Any
    ) -> None:
        """Ask at the last step and, if `epochs` is set, every so many epochs; not when a signal asked to stop."""
        last = state.global_step >= state.max_steps
        self._stopping = control.should_training_stop and not last
        rounds, self._rounds = self._rounds, self._round(state)
        if last or (self._rounds > rounds and not self._stopping):
            self._ask(model, state)

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, model: PreTrainedModel, **kwargs: Any
    ) -> None:
        """Ask at each evaluation of the loss, unless `epochs` is set or a signal asked to stop."""
        if self._epochs is None and not self._stopping:
            self._ask(model, state)

    def rehearse(self, model: PreTrainedModel) -> None:
        """Use the memory that asking will use, once; out-of-memory errors pass through."""
        rehearse(self._loaded(model), [question.tokens for question in self._questions], self._decoding)

    def _loaded(self, model: PreTrainedModel) -> LoadedModel:
        return LoadedModel(model, self._trainer.processing_class, self._dtype)

    def _round(self, state: TrainerState) -> int:
        return int((state.epoch or 0.0) / self._epochs + 1e-6) if self._epochs else 0

    def _ask(self, model: PreTrainedModel, state: TrainerState) -> None:
        if state.global_step in self._asked_steps:
            return
        self._asked_steps.add(state.global_step)
        started = time.monotonic()
        answers = self._answer_all(model)
        self._restart_clock()
        if not (answers and PartialState().is_main_process):
            return
        self._rows += [answer.row(state.global_step) for answer in answers]
        write_rows(self._run_dir, self._rows)
        tasks = by_task((answer.question.task, answer.scores) for answer in answers)
        self._write(answers, tasks, state.global_step)
        means = ", ".join(f"{task} {scores['edit_similarity']:.2f}" for task, scores in tasks.items())
        seconds = time.monotonic() - started
        logger.info("%d answers at step %d in %.1f s; similarity: %s", len(answers), state.global_step, seconds, means)

    def _answer_all(self, model: PreTrainedModel) -> list[Answer]:
        """Ask this process's part of the questions, and return the answers of all processes."""
        mine: list[tuple[int, Answer]] = []
        with PartialState().split_between_processes(list(enumerate(self._questions))) as part:
            try:
                questions = [question for _, question in part]
                answers = ask(self._loaded(model), questions, self._decoding)
                mine = [(number, answer) for (number, _), answer in zip(part, answers, strict=True)]
            except RuntimeError as error:  # mostly out of memory, which is no reason to lose a training
                logger.warning("%d questions could not be asked: %s", len(part), " ".join(str(error).split())[:200])
        if len(mine) < len(part):  # only here, where no traceback holds the tensors any more
            clear_device_cache(garbage_collection=True)
        return [answer for _, answer in sorted(gather_object(mine), key=lambda pair: pair[0])]

    def _write(self, answers: list[Answer], tasks: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Write scores and texts with the trainer's own TensorBoard writer; a second one would hide one of the two."""
        callbacks = self._trainer.callback_handler.callbacks
        boards = [callback for callback in callbacks if isinstance(callback, TensorBoardCallback)]
        for writer in (board.tb_writer for board in boards if board.tb_writer is not None):
            for task, scores in tasks.items():
                for name, value in scores.items():
                    writer.add_scalar(f"behaviour/{task}/{name}", value, step)
            for answer in answers:
                question = answer.question
                parts = {"prompt": question.prompt, "written": answer.output, "truth": question.truth}
                text = "\n\n".join(f"**{name}**\n\n{_block(part)}" for name, part in parts.items() if part is not None)
                writer.add_text(f"behaviour/{question.task}/{question.id}", text, step)


def _block(text: str) -> str:
    """Format a text as a Markdown code block, whatever it contains."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def add_samples(
    trainer: OrderedTrainer, validation: Dataset, encoder: SampleEncoder, recipe: Recipe, dtype: torch.dtype
) -> None:
    """Add the callback for the recipe's questions, unless the model is split over processes or there is no question.

    Args:
        trainer: a trainer before its first step.
        validation: samples of the validation split.
        encoder: encodes with the model's tokenizer.
        recipe: the run's recipe.
        dtype: dtype of the matrix products.

    Raises:
        UserError: a prompt of the recipe is too long.
    """
    keys, max_length, tokenizer = recipe.behaviour, trainer.args.max_length, trainer.processing_class
    longest = keys.behavioral_max_new_tokens
    questions = prompt_tasks(keys.behavioral_prompts or [], tokenizer, longest, max_length)
    questions += generation_tasks(
        validation,
        recipe.views,
        encoder,
        count=keys.behavioral_items,
        max_answer_tokens=longest,
        max_length=max_length,
    )
    if not questions:
        if keys.behavioral_items:
            logger.info("no questions during training: no validation sample has an answer of up to %d tokens", longest)
        return
    if is_sharded():
        logger.info("no questions during training: the model is split over the processes")
        return
    decoding = Decoding(longest, keys.behavioral_temperature, trainer.args.seed)
    restart_clock = trainer.monitor.metrics.restart_clock
    trainer.add_callback(SamplesCallback(trainer, questions, decoding, dtype, keys.behavioral_epochs, restart_clock))

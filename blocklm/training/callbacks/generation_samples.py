"""Asks the model fixed questions while it trains, and keeps what it writes."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from accelerate.utils.memory import clear_device_cache
from datasets import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations import TensorBoardCallback
from trl import SFTTrainer

from blocklm.config.recipe import Recipe
from blocklm.evaluation.generation_eval import Answer, ask, read_rows, write_rows
from blocklm.evaluation.questions import GenerationTask, generation_tasks
from blocklm.evaluation.scoring import by_task
from blocklm.models.distributed import is_sharded
from blocklm.models.generation import Decoding, rehearse

logger = logging.getLogger(__name__)


class SamplesCallback(TrainerCallback):
    """Asks before the first step, at each evaluation or every so many epochs, and at the last step; each step once.

    Training goes on exactly as without it. Several processes share the questions. An evaluation that fails, for want of
    memory, is said and left out. After a resume the rows of later steps are gone from `samples.jsonl`: they come again.

    Logs, to TensorBoard alone, for each task the means `behaviour/TASK/SCORE` of what `blocklm.evaluation.scoring` gives: `exact_match`,
    `edit_similarity`, `ended` (shares, 0 to 1), `identifier_f1`, `parse_valid`, `copy_floor`, `gain`, `chrf` (0 to 100); and
    the texts `behaviour/TASK/ITEM`.

    Args:
        trainer: that it watches; gives TensorBoard's writer, and its clock leaves the answers out.
        questions: what is asked.
        tokenizer: of the model.
        decoding: how tokens are chosen.
        dtype: dtype of the matrix products.
        epochs: ask every so many epochs; None asks at each evaluation.
    """

    def __init__(
        self,
        trainer: SFTTrainer,
        questions: list[GenerationTask],
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        dtype: torch.dtype,
        epochs: float | None,
    ) -> None:
        self._trainer, self._questions, self._tokenizer = trainer, questions, tokenizer
        self._decoding, self._dtype, self._epochs = decoding, dtype, epochs
        self._run_dir = Path(trainer.args.output_dir)
        self._rows: list[dict[str, Any]] = []
        self._asked: set[int] = set()
        self._rounds = 0
        self._wished = False

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Take up what was asked up to here, and ask before the first step."""
        if PartialState().is_main_process:
            known = read_rows(self._run_dir) if state.global_step else []
            self._rows = [row for row in known if row["step"] <= state.global_step]
            write_rows(self._run_dir, self._rows)
        self._asked = set(broadcast_object_list([{row["step"] for row in self._rows}])[0])
        self._rounds = self._round(state)
        if not state.global_step:
            self._ask(model, state)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Ask at the last step and, if so wished, every so many epochs; not when a signal asked to stop."""
        last = state.global_step >= state.max_steps
        self._wished = control.should_training_stop and not last
        rounds, self._rounds = self._rounds, self._round(state)
        if last or (self._rounds > rounds and not self._wished):
            self._ask(model, state)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel,
        **kwargs: Any,
    ) -> None:
        """Ask beside each evaluation of the loss, unless another rhythm was wished or a signal asked to stop."""
        if self._epochs is None and not self._wished:
            self._ask(model, state)

    def rehearse(self, model: PreTrainedModel) -> None:
        """Take the memory that asking will take, once; raises what running out of it raises."""
        prompts = [question.tokens for question in self._questions]
        rehearse(model, self._tokenizer, prompts, self._decoding, self._dtype)

    def _round(self, state: TrainerState) -> int:
        return int((state.epoch or 0.0) / self._epochs + 1e-6) if self._epochs else 0

    def _ask(self, model: PreTrainedModel, state: TrainerState) -> None:
        if state.global_step in self._asked:
            return
        self._asked.add(state.global_step)
        started = time.monotonic()
        answers = self._shared(model)
        self._trainer.monitor.metrics.restart_clock()
        if not (answers and PartialState().is_main_process):
            return
        self._rows += [answer.row(state.global_step) for answer in answers]
        write_rows(self._run_dir, self._rows)
        tasks = by_task((answer.question.task, answer.scores) for answer in answers)
        self._write(answers, tasks, state.global_step)
        means = ", ".join(f"{task} {scores['edit_similarity']:.2f}" for task, scores in tasks.items())
        seconds = time.monotonic() - started
        logger.info("%d answers at step %d in %.1f s; similarity: %s", len(answers), state.global_step, seconds, means)

    def _shared(self, model: PreTrainedModel) -> list[Answer]:
        """All answers, on every process, each having asked its part."""
        mine: list[tuple[int, Answer]] = []
        with PartialState().split_between_processes(list(enumerate(self._questions))) as part:
            try:
                answers = ask(model, self._tokenizer, [one for _, one in part], self._decoding, self._dtype)
                mine = [(at, answer) for (at, _), answer in zip(part, answers, strict=True)]
            except RuntimeError as error:  # out of memory, mostly: no reason to lose a training
                logger.warning("%d questions could not be asked: %s", len(part), " ".join(str(error).split())[:200])
        if len(mine) < len(part):  # only here, where no traceback holds the tensors any more
            clear_device_cache(garbage_collection=True)
        return [answer for _, answer in sorted(gather_object(mine), key=lambda pair: pair[0])]

    def _write(self, answers: list[Answer], tasks: Mapping[str, Mapping[str, float]], step: int) -> None:
        """Put scores and texts on TensorBoard; a second writer in its folder would hide one of the two."""
        boards = [one for one in self._trainer.callback_handler.callbacks if isinstance(one, TensorBoardCallback)]
        for writer in (board.tb_writer for board in boards if board.tb_writer is not None):
            for task, scores in tasks.items():
                for name, value in scores.items():
                    writer.add_scalar(f"behaviour/{task}/{name}", value, step)
            for answer in answers:
                asked = answer.question
                parts = {"prompt": asked.prompt, "written": answer.output, "truth": asked.truth}
                text = "\n\n".join(f"**{name}**\n\n{_block(part)}" for name, part in parts.items() if part is not None)
                writer.add_text(f"behaviour/{asked.task}/{asked.id}", text, step)


def _block(text: str) -> str:
    """As code in Markdown, whatever stands in it."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def add_samples(
    trainer: SFTTrainer,
    validation: Dataset,
    prompts: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    recipe: Recipe,
    dtype: torch.dtype,
) -> None:
    """Have a trainer's model asked what the recipe says, unless it is split over processes or there is nothing to ask.

    Args:
        trainer: not yet begun.
        validation: samples of that split, of which the questions are.
        prompts: the name of the family whose prompts each view takes.
        tokenizer: of the model.
        recipe: the run.
        dtype: dtype of the matrix products.

    Raises:
        UserError: a prompt of the recipe is too long.
    """
    keys = recipe.behaviour
    questions = generation_tasks(validation, prompts, tokenizer, keys, trainer.args.max_length)
    if not questions:
        if keys.behavioral_items:
            most = keys.behavioral_max_new_tokens
            logger.info("no questions while it trains: no validation sample has an answer of up to %d tokens", most)
        return
    if is_sharded():
        logger.info("no questions while it trains: the model is split over the processes")
        return
    decoding = Decoding(keys.behavioral_max_new_tokens, keys.behavioral_temperature, trainer.args.seed)
    trainer.add_callback(SamplesCallback(trainer, questions, tokenizer, decoding, dtype, keys.behavioral_epochs))

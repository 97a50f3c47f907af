"""Chooses fixed questions to a model: text of validation or test commits to write again, and a user's own prompts.

The choice depends on the data alone, so that every evaluation, process and run on the same corpus asks the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from blocklm.corpus.prompt_templates import CONTEXT, FAMILY
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.models.tokenization import IGNORED, encode

# The views whose answers are short: fill a gap, apply a message to code, write the next line, describe a change.
TASKS = ("fim", "edit", "next_line", "message")
PROMPT = "prompt"  # the task of a prompt without a truth
SEED = 0
CANDIDATES = 20  # samples tried for each question: many have answers that are too long


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """A question whose answer a model writes.

    Attributes:
        id: the sample's id, or `prompt-` and a number.
        task: one of `TASKS`, or `PROMPT`.
        prompt: the prompt as text.
        tokens: token ids of the prompt, as in training.
        truth: the text that the commit wrote; None for a user's prompt.
        language: language of the file.
        path: path of the file.
        commit: the commit that wrote the truth.
        before: the text that the truth replaces, which could be copied; empty if it replaces nothing.
        prefix: text before the answer in its window of the file.
        suffix: text after the answer in its window of the file.
    """

    id: str
    task: str
    prompt: str
    tokens: tuple[int, ...]
    truth: str | None = None
    language: str | None = None
    path: str | None = None
    commit: str | None = None
    before: str = ""
    prefix: str = ""
    suffix: str = ""

    @property
    def lines(self) -> int | None:
        """Number of lines of the truth; an answer is read and scored up to as many."""
        return None if self.truth is None else self.truth.rstrip("\n").count("\n") + 1


def generation_tasks(
    samples: Dataset,
    prompts: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    count: int,
    max_answer_tokens: int,
    max_length: int,
) -> list[GenerationTask]:
    """Choose questions from samples, as many from each task that they have, spread over their commits.

    Args:
        samples: a split of the corpus.
        prompts: name of the prompt family by view.
        tokenizer: the model's tokenizer.
        count: maximum number of questions, all tasks together.
        max_answer_tokens: maximum tokens of an answer.
        max_length: maximum tokens of prompt and answer together.
    """
    tasks = [task for task in TASKS if task in prompts]
    chosen: list[GenerationTask] = []
    for number, task in enumerate(tasks):
        rows = [row for row, view in enumerate(samples["view"][:]) if view == task]
        share = count // len(tasks) + (number < count % len(tasks))
        fitting = _fitting_tasks(samples.select(rows), share, prompts[task], tokenizer, max_answer_tokens, max_length)
        commits = [str(question.commit) for question in fitting]
        chosen += [fitting[place] for place in spread_over_commits(commits, share, share, SEED)] if fitting else []
    return chosen


def prompt_tasks(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_answer_tokens: int, max_length: int
) -> list[GenerationTask]:
    """Make a question without a truth of each of a user's prompts.

    Args:
        texts: the recipe's `behavioral_prompts`.
        tokenizer: the model's tokenizer.
        max_answer_tokens: maximum tokens of an answer.
        max_length: maximum tokens of prompt and answer together.

    Raises:
        UserError: a prompt is too long for an answer to follow.
    """
    max_prompt_tokens = max_length - max_answer_tokens
    tasks = []
    for number, text in enumerate(texts, 1):
        tokens = tuple(tokenizer("").input_ids + tokenizer(text, add_special_tokens=False).input_ids)
        if len(tokens) > max_prompt_tokens:
            raise UserError(
                f"text {number} of `behavioral_prompts` has {len(tokens)} tokens, and `max_length` leaves space for "
                f"{max_prompt_tokens}",
                "shorten it, or lower `behavioral_max_new_tokens`",
            )
        tasks.append(GenerationTask(f"prompt-{number}", PROMPT, text, tokens))
    return tasks


def _fitting_tasks(
    samples: Dataset,
    count: int,
    family: str,
    tokenizer: PreTrainedTokenizerBase,
    max_answer_tokens: int,
    max_length: int,
) -> list[GenerationTask]:
    """Make questions of candidates for `count` questions, those with an untrimmed prompt and a short enough answer."""
    if not count:
        return []
    candidates = count * CANDIDATES
    rows = samples.select(spread_over_commits(samples["commit"][:], candidates, candidates, SEED))
    fitting = []
    for row, encoded in zip(rows, encode(rows[:], tokenizer, max(1, max_length - max_answer_tokens)), strict=True):
        if encoded is not None and not encoded.trimmed:
            prompt_tokens = encoded.labels.count(IGNORED)
            if len(encoded.input_ids) - prompt_tokens <= max_answer_tokens:
                fitting.append(_task_of(row, family, tuple(encoded.input_ids[:prompt_tokens])))
    return fitting


def _task_of(row: Mapping[str, Any], family: str, tokens: tuple[int, ...]) -> GenerationTask:
    names = {key: row[key] for key in ("id", "prompt", "language", "path", "commit")}
    context = row["prompt"][slice(*row["context"])]
    question = GenerationTask(task=row["view"], tokens=tokens, truth=row["completion"], **names)
    if row["view"] == "edit":
        return replace(question, before=context)
    if row["view"] == "fim":
        return replace(question, prefix=context, suffix=_suffix(family, row["prompt"], row["context"]))
    return question


def _suffix(family: str, prompt: str, context: Sequence[int]) -> str:
    """Cut the text after the gap out of a prompt of the view `fim`."""
    _, tail = FAMILY[family].prompts["fim"].split(CONTEXT)
    before, after = map(len, tail.split("{suffix}"))
    return prompt[context[1] + before : len(prompt) - after]

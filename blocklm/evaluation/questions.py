"""Chooses fixed questions to a model: text of validation or test commits to write again, and a user's own prompts.

The choice depends on the data alone, so that every evaluation, process and run on the same corpus asks the same.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from blocklm.config.sampling import PLACE_VIEWS
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.models.tokenization.sample_encoder import SampleEncoder

# The views whose answers are short: write on at a cursor, make the next edit, apply a message, describe a change.
TASKS = (*PLACE_VIEWS, "quiet", "edit", "message")
OF_VIEW = {"quiet": "next_edit"}  # the places of next edits where nothing was changed
AROUND_CHARS = 1000  # of the text before and after an answer, which is parsed with it
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
        heals: whether the answer may begin within a token, as at a cursor.
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
    heals: bool = False

    @property
    def lines(self) -> int | None:
        """Number of lines of the truth; an answer is read and scored up to as many."""
        return None if self.truth is None else self.truth.rstrip("\n").count("\n") + 1


def generation_tasks(
    samples: Dataset,
    views: Collection[str],
    encoder: SampleEncoder,
    *,
    count: int,
    max_answer_tokens: int,
    max_length: int,
) -> list[GenerationTask]:
    """Choose questions from samples, as many from each task that they have, spread over their commits.

    Args:
        samples: a split of the corpus.
        views: the views that the model was taught.
        encoder: encodes with the model's tokenizer.
        count: maximum number of questions, all tasks together.
        max_answer_tokens: maximum tokens of an answer.
        max_length: maximum tokens of prompt and answer together.
    """
    rows_of = {task: _rows_of(samples, task) for task in TASKS if OF_VIEW.get(task, task) in views}
    tasks = [task for task, rows in rows_of.items() if rows]
    chosen: list[GenerationTask] = []
    for number, task in enumerate(tasks):
        rows = rows_of[task]
        share = count // len(tasks) + (number < count % len(tasks))
        fitting = _fitting_tasks(samples.select(rows), share, encoder, max_answer_tokens, max_length)
        commits = [str(question.commit) for question in fitting]
        chosen += [fitting[place] for place in spread_over_commits(commits, share, share, SEED)] if fitting else []
    return chosen


def _rows_of(samples: Dataset, task: str) -> list[int]:
    """Find the samples of a task; the corpus stores no text for a place where nothing changed."""
    views, texts = samples["view"][:], samples["completion"][:]
    return [
        row
        for row, (view, text) in enumerate(zip(views, texts, strict=True))
        if view == OF_VIEW.get(task, task) and bool(text) == (task != "quiet")
    ]


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
        tasks.append(GenerationTask(f"prompt-{number}", PROMPT, text, tokens, heals=True))
    return tasks


def _fitting_tasks(
    samples: Dataset, count: int, encoder: SampleEncoder, max_answer_tokens: int, max_length: int
) -> list[GenerationTask]:
    """Make questions of candidates for `count` questions, those with a short enough answer.

    A prompt at a place in a file may be trimmed, as an editor's is; any other must be whole.
    """
    if not count:
        return []
    candidates = count * CANDIDATES
    chosen = samples.select(spread_over_commits(samples["commit"][:], candidates, candidates, SEED))
    rows, encoded_rows = encoder.encode_columns(chosen, max(1, max_length - max_answer_tokens))
    fitting = []
    for number, encoded in enumerate(encoded_rows):
        row = {name: column[number] for name, column in rows.items()}
        if encoded is None or (encoded.trimmed and row["view"] not in PLACE_VIEWS):
            continue
        if len(encoded.input_ids) - encoded.prompt_tokens <= max_answer_tokens:
            fitting.append(_task_of(row, tuple(encoded.prompt_ids)))
    return fitting


def _task_of(row: Mapping[str, Any], tokens: tuple[int, ...]) -> GenerationTask:
    names = {key: row[key] for key in ("id", "prompt", "language", "path", "commit")}
    context = row["prompt"][slice(*row["context"])]
    question = GenerationTask(task=row["view"], tokens=tokens, truth=row["completion"], **names)
    if row["view"] == "edit":
        return replace(question, before=context)
    if row["view"] == "next_edit":
        return replace(question, before=row["before"], task="next_edit" if row["added"] else "quiet")
    if row["view"] == "completion":
        after = row["prompt"][slice(*row["suffix"])]
        heals = row["context"][1] == len(row["prompt"])  # no mark of a template follows
        return replace(question, prefix=context[-AROUND_CHARS:], suffix=after[:AROUND_CHARS], heals=heals)
    return question

"""Fixed questions to a model: what validation or test commits wrote, to be written again, and a user's own prompts.

They are chosen by the data alone, so that every evaluation, every process and every run on the same corpus asks the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from blocklm.config.generation import BehaviourArguments
from blocklm.corpus.prompt_templates import CONTEXT, FAMILY
from blocklm.corpus.splits import spread_over_commits
from blocklm.errors import UserError
from blocklm.models.tokenization import IGNORED, encode

# Fill the insertion, apply the intent, go on, say what a change does: the views that ask for something short.
TASKS = ("fim", "edit", "next_line", "message")
PROMPT = "prompt"  # the task of a prompt without a truth
SEED = 0
TRIED = 20  # samples looked at for each that is asked: many have answers that are too long


@dataclass(frozen=True, slots=True)
class GenerationTask:
    """What a model is asked to write.

    Args:
        id: of the sample, or `prompt-` and a number.
        task: one of `TASKS`, or `PROMPT`.
        prompt: as text.
        tokens: of the prompt, as in training.
        truth: what the commit wrote; None where nobody knows.
        language: of the file.
        path: of the file.
        commit: that wrote the truth.
        before: the text that the truth replaces, which could be copied; empty if it replaces nothing.
        prefix: what stands before the answer in its window of the file.
        suffix: what stands after it.
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
        """Lines of the truth: an answer is scored, and read, no further."""
        return None if self.truth is None else self.truth.rstrip("\n").count("\n") + 1


def generation_tasks(
    samples: Dataset,
    prompts: Mapping[str, str],
    tokenizer: PreTrainedTokenizerBase,
    behaviour: BehaviourArguments,
    max_length: int,
) -> list[GenerationTask]:
    """The questions of a recipe: its number of items, the same from each task that the samples have, and its prompts.

    Args:
        samples: a split of the corpus.
        prompts: the name of the family whose prompts each view takes.
        tokenizer: of the model.
        behaviour: how many, and how long an answer may be.
        max_length: tokens of prompt and answer together.

    Raises:
        UserError: a prompt of the recipe leaves no room for an answer.
    """
    room = max_length - behaviour.behavioral_max_new_tokens
    tasks = [task for task in TASKS if task in prompts]
    found = [_own(number, text, tokenizer, room) for number, text in enumerate(behaviour.behavioral_prompts or [], 1)]
    for at, task in enumerate(tasks):
        count = behaviour.behavioral_items // len(tasks) + (at < behaviour.behavioral_items % len(tasks))
        rows = [row for row, view in enumerate(samples["view"][:]) if view == task]
        family = prompts[task]
        found += _asked(samples.select(rows), count, family, tokenizer, room, behaviour.behavioral_max_new_tokens)
    return found


def _own(number: int, text: str, tokenizer: PreTrainedTokenizerBase, room: int) -> GenerationTask:
    tokens = tuple(tokenizer("").input_ids + tokenizer(text, add_special_tokens=False).input_ids)
    if len(tokens) > room:
        raise UserError(
            f"text {number} of `behavioral_prompts` has {len(tokens)} tokens, and `max_length` leaves room for {room}",
            "shorten it, or lower `behavioral_max_new_tokens`",
        )
    return GenerationTask(f"prompt-{number}", PROMPT, text, tokens)


def _asked(
    samples: Dataset, count: int, family: str, tokenizer: PreTrainedTokenizerBase, room: int, longest: int
) -> list[GenerationTask]:
    """At most `count` of one task whose prompts are whole and whose answers are short enough, from many commits."""
    if not count:
        return []
    tried = count * TRIED
    rows = samples.select(spread_over_commits(samples["commit"][:], tried, tried, SEED))
    fit = []
    for row, encoded in zip(rows, encode(rows[:], tokenizer, max(1, room)), strict=True):
        if encoded is not None and not encoded.trimmed:
            asked = encoded.labels.count(IGNORED)
            if len(encoded.input_ids) - asked <= longest:
                fit.append(_question(row, family, tuple(encoded.input_ids[:asked])))
    heard = spread_over_commits([str(question.commit) for question in fit], count, count, SEED)
    return [fit[at] for at in heard]


def _question(row: Mapping[str, Any], family: str, tokens: tuple[int, ...]) -> GenerationTask:
    names = {key: row[key] for key in ("id", "prompt", "language", "path", "commit")}
    context = row["prompt"][slice(*row["context"])]
    question = GenerationTask(task=row["view"], tokens=tokens, truth=row["completion"], **names)
    if row["view"] == "edit":
        return replace(question, before=context)
    if row["view"] == "fim":
        return replace(question, prefix=context, suffix=_suffix(family, row["prompt"], row["context"]))
    return question


def _suffix(family: str, prompt: str, context: Sequence[int]) -> str:
    """What a prompt of the view `fim` shows of the text after the gap."""
    _, tail = FAMILY[family].prompts["fim"].split(CONTEXT)
    before, after = map(len, tail.split("{suffix}"))
    return prompt[context[1] + before : len(prompt) - after]

"""The problems of a sitting: the same number of each task, from as many commits as possible, in the model's tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from blocklm.config.generation import BehaviourArguments
from blocklm.config.recipe import Recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import curate
from blocklm.corpus.prompt_templates import FAMILY, prompts_for
from blocklm.corpus.splits import spread_over_commits
from blocklm.evaluation.questions import TASKS, GenerationTask, generation_tasks
from blocklm.evaluation.tasks.build import task_items
from blocklm.evaluation.tasks.item import TaskItem
from blocklm.git.repository import Repository
from blocklm.mining.mine import mine
from blocklm.models.loading import special_tokens
from blocklm.models.tokenization import IGNORED, encode

SEED = 0
MAX_NEW_TOKENS = 128  # what has a longer answer is not asked


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be written; where that is more than a text, also the item that says so.

    Args:
        question: in tokens.
        item: with candidates to choose among, imports to name, or symbols to leave alone.
        endings: tokens of each candidate, none if the answer is written.
    """

    question: GenerationTask
    item: TaskItem | None = None
    endings: tuple[tuple[int, ...], ...] = ()


def problems_of(
    recipe: Recipe,
    repositories: Sequence[Repository],
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> list[Problem]:
    """At most `exam_task_items` problems of each task that the test commits give.

    Args:
        recipe: of the run.
        repositories: that were mined.
        corpus: whose test split names the commits; its views decide which of the tasks are asked that are views.
        tokenizer: of the model.
        max_length: tokens of prompt and answer together.
    """
    count = recipe.exam.exam_task_items
    if not count:
        return []
    test, names = corpus.splits["test"], corpus.report["prompts"]
    views = sum(task in names for task in TASKS)
    asked = BehaviourArguments(behavioral_items=count * views, behavioral_max_new_tokens=MAX_NEW_TOKENS)
    found = [Problem(question) for question in generation_tasks(test, names, tokenizer, asked, max_length)]
    special = special_tokens(tokenizer)
    changes = mine(repositories, recipe.mining)
    verdicts = curate(changes, recipe.mining).verdicts
    prompts = prompts_for(special, "auto") | {view: FAMILY[name] for view, name in names.items()}
    own = set(test.unique("commit"))
    for items in task_items(repositories, changes.dataset, verdicts, prompts, special).values():
        fit = [
            problem
            for item in items
            if item.commit in own and (problem := _problem(item, tokenizer, max_length)) is not None
        ]
        commits = [str(problem.question.commit) for problem in fit]
        found += [fit[at] for at in spread_over_commits(commits, count, count, SEED)]
    return found


def _problem(item: TaskItem, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Problem | None:
    """An item in tokens, None if it is too long."""
    answer = max(item.candidates, key=len, default=item.truth)
    row: Mapping[str, list[object]] = {
        "prompt": [item.prompt], "context": [item.context], "completion": [answer], "added": [[]],
    }  # fmt: skip
    (encoded,) = encode(row, tokenizer, max_length)
    if encoded is None:
        return None
    prompt = encoded.labels.count(IGNORED)
    if len(encoded.input_ids) - prompt > MAX_NEW_TOKENS:
        return None
    question = GenerationTask(
        id=item.id,
        task=item.task,
        prompt=item.prompt,
        tokens=tuple(encoded.input_ids[:prompt]),
        truth=item.truth,
        language=item.language,
        path=item.path,
        commit=item.commit,
        before=item.before,
        prefix=item.prefix,
        suffix=item.suffix,
    )
    endings = tokenizer(list(item.candidates), add_special_tokens=False).input_ids if item.candidates else []
    return Problem(question, item, tuple(map(tuple, endings)))

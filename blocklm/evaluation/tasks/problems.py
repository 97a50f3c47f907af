"""Chooses the problems of an exam: the same number of each task, from as many commits as possible, in tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

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
from blocklm.models.pretrained import special_tokens
from blocklm.models.tokenization.encode import encode
from blocklm.models.tokenization.sample_encoder import SampleEncoder

SEED = 0
MAX_NEW_TOKENS = 128  # problems with a longer answer are left out


@dataclass(frozen=True, slots=True)
class Problem:
    """A question of a task in tokens.

    Attributes:
        question: the question as a text to write.
        item: the task's item, with its candidates or removed symbols; None for the tasks that are views.
        endings: token ids of each candidate; empty if the answer is written.
    """

    question: GenerationTask
    item: TaskItem | None = None
    endings: tuple[tuple[int, ...], ...] = ()


def problems_of(
    recipe: Recipe,
    repositories: Sequence[Repository],
    corpus: Corpus,
    encoder: SampleEncoder,
    max_length: int,
) -> list[Problem]:
    """Choose at most `exam_task_items` problems of each task from the test commits.

    Args:
        recipe: the run's recipe.
        repositories: the mined repositories.
        corpus: the corpus, whose test split has the commits, and whose views decide which views are asked as tasks.
        encoder: encodes with the model's tokenizer.
        max_length: maximum tokens of prompt and answer together.
    """
    count = recipe.exam.exam_task_items
    if not count:
        return []
    test, names = corpus.splits["test"], corpus.report["prompts"]
    views = sum(task in names for task in TASKS)
    questions = generation_tasks(
        test, names, encoder, count=count * views, max_answer_tokens=MAX_NEW_TOKENS, max_length=max_length
    )
    problems = [Problem(question) for question in questions]
    tokenizer = encoder.tokenizer
    special = special_tokens(tokenizer)
    changes = mine(repositories, recipe.mining)
    verdicts = curate(changes, recipe.mining).verdicts
    prompts = prompts_for(special, "auto") | {view: FAMILY[name] for view, name in names.items()}
    own = set(test.unique("commit"))
    for items in task_items(repositories, changes.dataset, verdicts, prompts, special).values():
        fitting = [
            problem
            for item in items
            if item.commit in own and (problem := problem_of(item, tokenizer, max_length)) is not None
        ]
        commits = [str(problem.question.commit) for problem in fitting]
        problems += [fitting[place] for place in spread_over_commits(commits, count, count, SEED)]
    return problems


def problem_of(item: TaskItem, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Problem | None:
    """Tokenize an item; None if it is too long."""
    answer = max(item.candidates, key=len, default=item.truth)
    row: Mapping[str, list[object]] = {
        "prompt": [item.prompt.text], "context": [item.prompt.context], "suffix": [item.prompt.suffix],
        "pieces": [item.prompt.pieces], "completion": [answer], "added": [[]],
    }  # fmt: skip
    (encoded,) = encode(row, tokenizer, max_length)
    if encoded is None:
        return None
    if len(encoded.input_ids) - encoded.prompt_tokens > MAX_NEW_TOKENS:
        return None
    question = GenerationTask(
        id=item.id,
        task=item.task,
        prompt=item.prompt.text,
        tokens=tuple(encoded.prompt_ids),
        truth=item.truth,
        language=item.language,
        path=item.path,
        commit=item.commit,
        before=item.before,
        prefix=item.prefix,
        suffix=item.suffix,
        heals=item.prompt.context[1] == len(item.prompt.text),
    )
    endings = tokenizer(list(item.candidates), add_special_tokens=False).input_ids if item.candidates else []
    return Problem(question, item, tuple(map(tuple, endings)))

"""The practical part of the exam: base and tuned model do the same tasks, greedily, and are compared by each task's score.

The means are compared by a paired bootstrap over commits; the p-values of all tasks are held to Holm's bound. What was asked
and what was answered is kept as Parquet beside the result.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.compare import Arm
from blocklm.evaluation.exam.significance import ALPHA, difference, holm
from blocklm.evaluation.scoring import by_task, scores_of
from blocklm.evaluation.tasks.dead_api import DEAD_API
from blocklm.evaluation.tasks.imports import IMPORTS
from blocklm.evaluation.tasks.problems import MAX_NEW_TOKENS, Problem
from blocklm.evaluation.tasks.task_scores import choice_scores, dead_api_scores, import_scores
from blocklm.evaluation.tasks.which_file import WHICH_FILE
from blocklm.models.generation import Decoding, Output, generate_stream
from blocklm.models.inference_state import at_rest
from blocklm.models.likelihood import continuation_nll

# What each task is judged by; of a dead API less is better.
JUDGED_BY = {
    "fim": "edit_similarity",
    "edit": "edit_similarity",
    "next_line": "edit_similarity",
    "ripple_edit": "edit_similarity",
    WHICH_FILE: "mrr",
    "body": "edit_similarity",
    "test": "identifier_f1",
    IMPORTS: "import_f1",
    "message": "chrf",
    DEAD_API: "dead_api",
}


def run_tasks(
    problems: Sequence[Problem],
    arms: Sequence[Arm],
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
    answers: Answers,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let base and tuned model do the problems, those that they have not done yet.

    Args:
        problems: of all tasks.
        arms: `base` and `tuned`.
        tokenizer: of both.
        dtype: dtype of the matrix products.
        answers: what was answered before; grows batch by batch.

    Returns:
        By task the means of both arms and their `change`; and a row for each problem with prompt, truth and both answers.
    """
    found = {arm.name: _answered(arm, problems, tokenizer, dtype, answers) for arm in arms}
    scores = {
        name: [_scores(problem, answer) for problem, answer in zip(problems, some, strict=True)]
        for name, some in found.items()
    }
    rows = [
        {
            "id": problem.question.id,
            "task": problem.question.task,
            "commit": problem.question.commit,
            "path": problem.question.path,
            "language": problem.question.language,
            "prompt": problem.question.prompt,
            "truth": problem.question.truth,
            **{name: _shown(problem, some[at]) for name, some in found.items()},
            **{f"{name}_score": scores[name][at].get(JUDGED_BY[problem.question.task]) for name in found},
        }
        for at, problem in enumerate(problems)
    ]
    return _compared(problems, scores), rows


def _answered(
    arm: Arm, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, dtype: torch.dtype, answers: Answers
) -> list[Any]:
    """What an arm answers to each problem; it is asked what it has not answered yet."""
    keys = [key_of(arm.weights, one.question.tokens, one.question.lines, one.endings) for one in problems]
    left = [at for at, key in enumerate(keys) if answers.get(key) is None]
    if left:
        with arm.model() as model:
            for at, answer in _asked(arm.name, model, [problems[at] for at in left], tokenizer, dtype):
                answers.add(keys[left[at]], answer)
    return [answers.get(key) for key in keys]


def _asked(
    name: str,
    model: PreTrainedModel,
    problems: Sequence[Problem],
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
) -> Iterator[tuple[int, Any]]:
    """The place of each problem with the answer: text and whether it ended, or what each candidate costs in bits."""
    to_write = [at for at, problem in enumerate(problems) if not problem.endings]
    questions = [problems[at].question for at in to_write]
    prompts, lines = [one.tokens for one in questions], [one.lines for one in questions]
    for at, output in generate_stream(
        model, tokenizer, prompts, lines, Decoding(MAX_NEW_TOKENS), dtype, f"exam: {name} writes"
    ):
        yield to_write[at], [output.text, output.ended]
    to_choose = [at for at, problem in enumerate(problems) if problem.endings]
    device = next(model.parameters()).device
    with at_rest(model), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        for at in tqdm(to_choose, f"exam: {name} chooses", unit=" items", disable=None):
            nats = continuation_nll(model, problems[at].question.tokens, problems[at].endings)
            yield at, [cost / log(2) for cost in nats]


def _scores(problem: Problem, answer: Any) -> dict[str, float]:
    if problem.item is not None and problem.endings:
        return choice_scores(problem.item, answer)
    text, ended = answer
    if problem.item is not None and problem.item.task == DEAD_API:
        return dead_api_scores(problem.item, text)
    more = import_scores(problem.item, text) if problem.item is not None and problem.item.task == IMPORTS else {}
    return scores_of(problem.question, Output(text, ended)) | more


def _shown(problem: Problem, answer: Any) -> str:
    """The answer as a text: of a choice the candidates, the likeliest first."""
    if problem.item is None or not problem.endings:
        return str(answer[0])
    order = sorted(range(len(answer)), key=answer.__getitem__)
    return "".join(f"{problem.item.candidates[at][:-1]}\n" for at in order)


def _compared(problems: Sequence[Problem], scores: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    means = {
        name: by_task((problem.question.task, one) for problem, one in zip(problems, some, strict=True))
        for name, some in scores.items()
    }
    found: dict[str, Any] = {}
    for task, score in JUDGED_BY.items():
        here = [
            at
            for at, problem in enumerate(problems)
            if problem.question.task == task and all(score in scores[name][at] for name in ("base", "tuned"))
        ]
        if here:
            totals: dict[str | None, Any] = defaultdict(lambda: np.zeros(3))
            for at in here:
                totals[problems[at].question.commit] += (1, scores["base"][at][score], scores["tuned"][at][score])
            found[task] = {
                "items": len(here),
                "commits": len(totals),
                "score": score,
                **{
                    name: {key: mean for key, mean in of[task].items() if key != "items"} for name, of in means.items()
                },
                "change": difference(np.stack(list(totals.values())), less_is_better=task == DEAD_API),
            }
    raised = holm({task: entry["change"]["p"] for task, entry in found.items()})
    for task, entry in found.items():
        entry["change"]["p_holm"] = raised[task]
        if raised[task] > ALPHA:
            entry["change"]["verdict"] = "no detectable change"
    return found

"""Runs the tasks of the exam: base and tuned model answer the same problems greedily, and are compared task by task.

The means are compared by a paired bootstrap over commits; the p-values of all tasks are held to Holm's bound. Questions
and answers are kept as Parquet beside the result.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np
from tqdm import tqdm

from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.compare import Arm
from blocklm.evaluation.exam.significance import ALPHA, difference, holm
from blocklm.evaluation.scoring import by_task, scores_of
from blocklm.evaluation.tasks.dead_api import DEAD_API
from blocklm.evaluation.tasks.imports import IMPORTS
from blocklm.evaluation.tasks.problems import MAX_NEW_TOKENS, Problem
from blocklm.evaluation.tasks.task_scores import choice_scores, dead_api_scores, import_scores
from blocklm.evaluation.tasks.which_file import WHICH_FILE
from blocklm.models.generation.decoding import Decoding, Output
from blocklm.models.generation.generate import generate_stream
from blocklm.models.likelihood import continuation_nll
from blocklm.models.loaded import LoadedModel

# The score that each task is judged by; for a dead API less is better.
JUDGED_BY = {
    "completion": "accepted",
    "next_edit": "delta_chrf",
    "quiet": "quiet",
    "edit": "delta_chrf",
    "ripple_edit": "delta_chrf",
    WHICH_FILE: "mrr",
    "body": "edit_similarity",
    "test": "identifier_f1",
    IMPORTS: "import_f1",
    "message": "chrf",
    DEAD_API: "dead_api",
}


def run_tasks(
    problems: Sequence[Problem], arms: Sequence[Arm], answers: Answers
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Let base and tuned model answer the problems that they have not answered yet, and compare them.

    Args:
        problems: the problems of all tasks.
        arms: the arms `base` and `tuned`.
        answers: stored answers; new ones are added batch by batch.

    Returns:
        The means of both arms and their `change`, by task; and a row for each problem with prompt, truth and both
        answers.
    """
    by_arm = {arm.name: _load_or_answer(arm, problems, answers) for arm in arms}
    scores = {
        name: [_scores(problem, answer) for problem, answer in zip(problems, of_arm, strict=True)]
        for name, of_arm in by_arm.items()
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
            **{name: _answer_text(problem, of_arm[number]) for name, of_arm in by_arm.items()},
            **{f"{name}_score": scores[name][number].get(JUDGED_BY[problem.question.task]) for name in by_arm},
        }
        for number, problem in enumerate(problems)
    ]
    return _compare(problems, scores), rows


def _load_or_answer(arm: Arm, problems: Sequence[Problem], answers: Answers) -> list[Any]:
    """Return an arm's answer to each problem, and store it; stored ones are not asked again."""
    keys = [
        key_of(arm.weights, problem.question.tokens, problem.question.lines, problem.endings, problem.question.heals)
        for problem in problems
    ]
    left = [number for number, key in enumerate(keys) if answers.get(key) is None]
    if left:
        with arm.open() as loaded:
            unanswered = [problems[number] for number in left]
            for place, answer in _answer_stream(arm.name, loaded, unanswered):
                answers.add(keys[left[place]], answer)
    return [answers.get(key) for key in keys]


def _answer_stream(name: str, loaded: LoadedModel, problems: Sequence[Problem]) -> Iterator[tuple[int, Any]]:
    """Yield the place of each problem with its answer: text and whether it ended, or the bits of each candidate."""
    to_write = [place for place, problem in enumerate(problems) if not problem.endings]
    questions = [problems[place].question for place in to_write]
    prompts, lines = [question.tokens for question in questions], [question.lines for question in questions]
    heals = [question.heals for question in questions]
    written = generate_stream(loaded, prompts, Decoding(MAX_NEW_TOKENS), lines, f"exam: {name} writes", heals=heals)
    for number, output in written:
        yield to_write[number], [output.text, output.ended]
    to_choose = [place for place, problem in enumerate(problems) if problem.endings]
    with loaded.evaluation_mode():
        for place in tqdm(to_choose, f"exam: {name} chooses", unit=" items", disable=None):
            nats = continuation_nll(loaded, problems[place].question.tokens, problems[place].endings)
            yield place, [cost / log(2) for cost in nats]


def _scores(problem: Problem, answer: Any) -> dict[str, float]:
    if problem.item is not None and problem.endings:
        return choice_scores(problem.item, answer)
    text, ended = answer
    if problem.item is not None and problem.item.task == DEAD_API:
        return dead_api_scores(problem.item, text)
    more = import_scores(problem.item, text) if problem.item is not None and problem.item.task == IMPORTS else {}
    return scores_of(problem.question, Output(text, ended)) | more


def _answer_text(problem: Problem, answer: Any) -> str:
    """Return the answer as a text; for a choice the candidates, the likeliest first."""
    if problem.item is None or not problem.endings:
        return str(answer[0])
    order = sorted(range(len(answer)), key=answer.__getitem__)
    return "".join(f"{problem.item.candidates[place][:-1]}\n" for place in order)


def _compare(problems: Sequence[Problem], scores: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    means = {
        name: by_task((problem.question.task, scored) for problem, scored in zip(problems, of_arm, strict=True))
        for name, of_arm in scores.items()
    }
    entries: dict[str, Any] = {}
    for task, score in JUDGED_BY.items():
        places = [
            place
            for place, problem in enumerate(problems)
            if problem.question.task == task and all(score in scores[name][place] for name in ("base", "tuned"))
        ]
        if places:
            totals: dict[str | None, Any] = defaultdict(lambda: np.zeros(3))
            for place in places:
                base, tuned = scores["base"][place][score], scores["tuned"][place][score]
                totals[problems[place].question.commit] += (1, base, tuned)
            entries[task] = {
                "items": len(places),
                "commits": len(totals),
                "score": score,
                **{
                    name: {key: mean for key, mean in of[task].items() if key != "items"} for name, of in means.items()
                },
                "change": difference(np.stack(list(totals.values())), less_is_better=task == DEAD_API),
            }
    raised = holm({task: entry["change"]["p"] for task, entry in entries.items()})
    for task, entry in entries.items():
        entry["change"]["p_holm"] = raised[task]
        if raised[task] > ALPHA:
            entry["change"]["verdict"] = "no detectable change"
    return entries

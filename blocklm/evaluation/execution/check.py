"""The repository's own check as an exam: how often does what base and tuned model write pass it?

Both write the same edits of test commits, which stand in the commit's own tree in place of what was written there. An edit
whose truth does not pass is left out: the check says nothing about it. Leaving the lines as they were often passes too, which
is the floor.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from blocklm.config.generation import BehaviourArguments
from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.setup import ExamSetup, Opens
from blocklm.evaluation.exam.significance import difference
from blocklm.evaluation.execution.limits import ResourceLimits
from blocklm.evaluation.execution.runner import Edit, Trial, counted
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.evaluation.questions import GenerationTask, generation_tasks
from blocklm.formatting import GIB
from blocklm.models.generation import Decoding, generate
from blocklm.runs.fingerprint import weights_of

CHECKS = "exam-checks.jsonl"
ANSWER_TOKENS = 256  # a longer edit is not asked; less where the model reads little
TEMPERATURE = 0.8

logger = logging.getLogger(__name__)


def check_edits(setup: ExamSetup, tuned: Opens, base: Opens) -> dict[str, Any]:
    """Let both models write edits and the repository's own command try them; nothing without `check_command`.

    What was written and tried before in this run directory stays.

    Args:
        setup: with the recipe, the test commits and the repositories.
        tuned: opens the tuned model.
        base: opens the model as it was before training.

    Returns:
        `check`, for the result of the exam.

    Raises:
        UserError: there is no sandbox here.
    """
    keys, run_dir = setup.recipe.check, setup.recipe.output_dir
    if keys.check_command is None:
        return {}
    check_isolation(keys.binds)
    memory = int(keys.check_memory * GIB)
    limits = ResourceLimits(keys.check_timeout, memory, memory)
    with Answers(run_dir / CHECKS) as answers:
        trial = Trial(setup.repositories, keys.check_command, limits, keys.binds, answers)
        asked = _questions(setup)
        truths = trial.verdicts([Edit(question, str(question.truth)) for question in asked], "check: the commits")
        questions = [question for question, truth in zip(asked, truths, strict=True) if truth.passed]
        said = next((truth.said for truth in truths if truth.said and not truth.passed), None)
        about = {
            "command": keys.check_command,
            "items": len(questions),
            "commits": len({question.commit for question in questions}),
            "samples": keys.check_samples,
            "left_out": counted(truths),
            "left_out_said": said,
        }
        if not questions:
            logger.warning("`check_command` says nothing: of %d commits' edits none passes: %s", len(asked), said)
            return {"check": about}
        unchanged = trial.verdicts([Edit(question, question.before) for question in questions], "check: unchanged")
        texts = {
            "tuned": _written(setup, f"tuned {weights_of(run_dir)}", tuned, questions, answers),
            "base": _written(setup, f"base {setup.base_name}", base, questions, answers),
        }
        passed = {name: _passed(trial, name, questions, some) for name, some in texts.items()}
    floor = sum(verdict.passed for verdict in unchanged) / len(questions)
    return {"check": about | {"unchanged": {"pass_rate": floor}} | compared(questions, passed)}


def compared(questions: Sequence[GenerationTask], passed: Mapping[str, Sequence[Sequence[bool]]]) -> dict[str, Any]:
    """The pass rates of `base` and `tuned`, and how sure their difference is.

    Args:
        questions: what was asked.
        passed: by arm and question, whether each sample passed.
    """
    found: dict[str, Any] = {}
    for name in ("base", "tuned"):
        samples = len(passed[name][0])
        rates = {
            str(k): float(np.mean([pass_at(samples, sum(one), k) for one in passed[name]]))
            for k in sorted({1, samples})
        }
        found[name] = {"pass_at": rates}
    commits: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    items = []
    for question, base, tuned in zip(questions, passed["base"], passed["tuned"], strict=True):
        total = commits[str(question.commit)]
        for at, value in enumerate((1.0, float(np.mean(base)), float(np.mean(tuned)))):
            total[at] += value
        about = {"id": question.id, "commit": question.commit, "path": question.path}
        items.append(about | {"base_passed": sum(base), "tuned_passed": sum(tuned)})
    return found | difference(np.array(list(commits.values()))) | {"per_item": items}


def pass_at(samples: int, passed: int, k: int) -> float:
    """The chance that one of `k` samples passes, estimated without bias from more of them (Chen et al. 2021)."""
    if samples - passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


def _questions(setup: ExamSetup) -> list[GenerationTask]:
    longest = min(ANSWER_TOKENS, setup.max_length // 2)
    wanted = BehaviourArguments(behavioral_items=setup.recipe.check.check_items, behavioral_max_new_tokens=longest)
    family = {"edit": setup.corpus.report["prompts"]["edit"]}
    return generation_tasks(setup.corpus.splits["test"], family, setup.tokenizer, wanted, setup.max_length)


def _written(
    setup: ExamSetup, weights: str, opens: Opens, questions: Sequence[GenerationTask], answers: Answers
) -> list[list[str]]:
    """What a model writes for each question, as often as the recipe says; asked for what it has not written yet.

    An answer is read as far as the truth has lines: a base model does not end.
    """
    prompts = [question.tokens for question in questions]
    lines = [str(question.truth).count("\n") for question in questions]
    count = setup.recipe.check.check_samples
    rounds: list[list[str]] = []
    with ExitStack() as opened:
        model = None
        for seed in range(count):
            decoding = Decoding(min(ANSWER_TOKENS, setup.max_length // 2), TEMPERATURE if count > 1 else 0.0, seed)
            asked = key_of(weights, decoding, prompts, lines)
            known = answers.get(asked)
            if known is None:
                model = model or opened.enter_context(opens())
                name = f"check: {weights.split()[0]} writes"
                outputs = generate(model, setup.tokenizer, prompts, lines, decoding, setup.dtype, name)
                known = [output.text for output in outputs]
                answers.add(asked, known)
            rounds.append(known)
    return [list(texts) for texts in zip(*rounds, strict=True)]


def _passed(
    trial: Trial, name: str, questions: Sequence[GenerationTask], texts: Sequence[Sequence[str]]
) -> list[list[bool]]:
    """Whether each of the texts for each question passes."""
    edits = [Edit(question, text) for question, some in zip(questions, texts, strict=True) for text in some]
    verdicts = iter(trial.verdicts(edits, f"check: {name}"))
    return [[next(verdicts).passed for _ in some] for some in texts]

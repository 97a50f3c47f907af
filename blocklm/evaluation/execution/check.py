"""Compares how often the edits of base and tuned model pass the repository's own check.

Both models write the same edits of test commits, and each edit replaces the true one in the commit's own tree. An edit
whose truth does not pass is left out, because the check tells nothing about it. Unchanged lines often pass too; their
pass rate is the floor.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.compare import OpenModel
from blocklm.evaluation.exam.setup import ExamSetup
from blocklm.evaluation.exam.significance import difference
from blocklm.evaluation.execution.limits import ResourceLimits
from blocklm.evaluation.execution.runner import Edit, Trial, count_failures
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.evaluation.questions import GenerationTask, generation_tasks
from blocklm.formatting import GIB
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.runs.fingerprint import weights_of

CHECKS = "exam-checks.jsonl"
ANSWER_TOKENS = 256  # longer edits are left out; fewer if `max_length` is short
TEMPERATURE = 0.8

logger = logging.getLogger(__name__)


def check_edits(setup: ExamSetup, tuned: OpenModel, base: OpenModel) -> dict[str, Any]:
    """Let both models write edits, and run the repository's own command on them.

    Edits and verdicts stored in the run directory are reused.

    Args:
        setup: the exam's recipe, test commits and repositories.
        tuned: function that opens the tuned model.
        base: function that opens the model as it was before training.

    Returns:
        `check`, for the result of the exam; empty without `check_command`.

    Raises:
        UserError: this machine has no working sandbox.
    """
    keys, run_dir = setup.recipe.check, setup.recipe.output_dir
    if keys.check_command is None:
        return {}
    check_isolation(keys.binds)
    memory = int(keys.check_memory * GIB)
    limits = ResourceLimits(keys.check_timeout, memory, memory)
    with Answers(run_dir / CHECKS) as answers:
        runner = Trial(setup.repositories, keys.check_command, limits, keys.binds, answers)
        candidates = _questions(setup)
        truths = runner.verdicts(
            [Edit(question, str(question.truth)) for question in candidates], "check: the commits"
        )
        questions = [question for question, truth in zip(candidates, truths, strict=True) if truth.passed]
        output = next((truth.output for truth in truths if truth.output and not truth.passed), None)
        about = {
            "command": keys.check_command,
            "items": len(questions),
            "commits": len({question.commit for question in questions}),
            "samples": keys.check_samples,
            "left_out": count_failures(truths),
            "left_out_said": output,
        }
        if not questions:
            logger.warning("`check_command` tells nothing: none of %d true edits passes: %s", len(candidates), output)
            return {"check": about}
        unchanged = runner.verdicts([Edit(question, question.before) for question in questions], "check: unchanged")
        texts = {
            "tuned": _load_or_write(setup, f"tuned {weights_of(run_dir)}", tuned, questions, answers),
            "base": _load_or_write(setup, f"base {setup.base_name}", base, questions, answers),
        }
        passed = {name: _passed(runner, name, questions, of_arm) for name, of_arm in texts.items()}
    floor = sum(verdict.passed for verdict in unchanged) / len(questions)
    return {"check": about | {"unchanged": {"pass_rate": floor}} | compare_pass_rates(questions, passed)}


def compare_pass_rates(
    questions: Sequence[GenerationTask], passed: Mapping[str, Sequence[Sequence[bool]]]
) -> dict[str, Any]:
    """Compute the pass rates of `base` and `tuned`, and the significance of their difference.

    Args:
        questions: the questions.
        passed: by arm and question, whether each sample passed.
    """
    result: dict[str, Any] = {}
    for name in ("base", "tuned"):
        samples = len(passed[name][0])
        rates = {
            str(k): float(np.mean([pass_at(samples, sum(outcomes), k) for outcomes in passed[name]]))
            for k in sorted({1, samples})
        }
        result[name] = {"pass_at": rates}
    commits: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    items = []
    for question, base, tuned in zip(questions, passed["base"], passed["tuned"], strict=True):
        total = commits[str(question.commit)]
        for column, value in enumerate((1.0, float(np.mean(base)), float(np.mean(tuned)))):
            total[column] += value
        about = {"id": question.id, "commit": question.commit, "path": question.path}
        items.append(about | {"base_passed": sum(base), "tuned_passed": sum(tuned)})
    return result | difference(np.array(list(commits.values()))) | {"per_item": items}


def pass_at(samples: int, passed: int, k: int) -> float:
    """Estimate without bias the probability that one of `k` samples passes, from more samples (Chen et al. 2021)."""
    if samples - passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


def _questions(setup: ExamSetup) -> list[GenerationTask]:
    longest = min(ANSWER_TOKENS, setup.max_length // 2)
    return generation_tasks(
        setup.corpus.splits["test"],
        ("edit",),
        setup.encoder,
        count=setup.recipe.check.check_items,
        max_answer_tokens=longest,
        max_length=setup.max_length,
    )


def _load_or_write(
    setup: ExamSetup, weights: str, open_model: OpenModel, questions: Sequence[GenerationTask], answers: Answers
) -> list[list[str]]:
    """Return `check_samples` answers of a model to each question, and store them; stored ones are not written again.

    An answer is cut to the number of lines of the truth, because a base model does not end its answers.
    """
    prompts = [question.tokens for question in questions]
    lines = [str(question.truth).count("\n") for question in questions]
    count = setup.recipe.check.check_samples
    rounds: list[list[str]] = []
    with ExitStack() as opened:
        loaded = None
        for seed in range(count):
            decoding = Decoding(min(ANSWER_TOKENS, setup.max_length // 2), TEMPERATURE if count > 1 else 0.0, seed)
            key = key_of(weights, decoding, prompts, lines)
            texts = answers.get(key)
            if texts is None:
                loaded = loaded or opened.enter_context(open_model())
                name = f"check: {weights.split()[0]} writes"
                outputs = generate(loaded, prompts, decoding, lines, name)
                texts = [output.text for output in outputs]
                answers.add(key, texts)
            rounds.append(texts)
    return [list(of_question) for of_question in zip(*rounds, strict=True)]


def _passed(
    runner: Trial, name: str, questions: Sequence[GenerationTask], texts: Sequence[Sequence[str]]
) -> list[list[bool]]:
    """Check whether each of the texts for each question passes."""
    edits = [Edit(question, text) for question, answers in zip(questions, texts, strict=True) for text in answers]
    verdicts = iter(runner.verdicts(edits, f"check: {name}"))
    return [[next(verdicts).passed for _ in answers] for answers in texts]

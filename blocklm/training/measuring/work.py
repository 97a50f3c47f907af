"""Counts the tokens that a run will train on, read and write, with its exam and the texts that it generates."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING

from trl import SFTConfig

from blocklm.config.recipe import Recipe
from blocklm.evaluation.exam.adapter_scale import ITEMS
from blocklm.training.curriculum import epochs_for, pass_limits, rates_of, rates_within_tokens, tokens_of
from blocklm.training.planning.measurement import Measurement
from blocklm.training.planning.micro_batch import Plan
from blocklm.training.token_counts import TokenCounts

if TYPE_CHECKING:
    from blocklm.corpus.build import Corpus

# The tasks of the exam and the most tokens of their answers, whose modules would load git's libraries.
TASKS, MAX_NEW_TOKENS = 11, 128
WITH_PIECES = ("bm25", "hybrid")  # arms that are shown retrieved text too


@dataclass(frozen=True, slots=True)
class Work:
    """The tokens of a run, at most: early stopping and answers that end themselves make it shorter.

    Attributes:
        steps: optimizer steps.
        trained: tokens that are trained on, with the padding that packed rows have.
        evaluated: tokens of validation that are scored during training.
        examined: tokens of the exam and of the choice of the adapter's strength.
        prompts: tokens of prompts that are answered, in training and exam.
        written: tokens of these answers.
    """

    steps: int
    trained: int
    evaluated: int
    examined: int
    prompts: int
    written: int

    def seconds(self, measurement: Measurement) -> dict[str, float]:
        """Seconds on a measured device by part of the run."""
        speeds = measurement.speeds
        return {
            "training": self.trained / measurement.tokens_per_second,
            "validation": self.evaluated / speeds.read,
            "exam": self.examined / speeds.read,
            "answers": self.prompts / speeds.prompt + self.written / speeds.written,
        }


def work_of(recipe: Recipe, args: SFTConfig, plan: Plan, corpus: "Corpus", counts: TokenCounts) -> Work:
    """Count the tokens of a run. Mining, the general texts of the exam and `check_command` are left out.

    Args:
        recipe: the run's recipe.
        args: epochs, steps and evaluations as the recipe gives them.
        plan: micro-batch, accumulation and length.
        corpus: samples of all splits.
        counts: token counts of the training samples, by whose lengths those of the other splits are estimated.
    """
    mean = {view: _mean(counts, view, plan.max_length) for view in counts.samples}
    asked = _weighted(mean, dict.fromkeys(recipe.exam_views, 1.0))
    steps, epochs, trained = _training(recipe, args, plan, corpus, mean)
    evaluations = _evaluations(args, steps, epochs)
    held = _samples_of(corpus, "validation", recipe)
    validated = min(held, held if (most := recipe.run.max_validation_samples) is None else most)
    behaviour = recipe.behaviour
    texts = behaviour.behavioral_items + len(behaviour.behavioral_prompts or [])
    every = behaviour.behavioral_epochs
    rounds = 2 + (evaluations if every is None else int(epochs / every))
    problems = 2 * TASKS * recipe.exam.exam_task_items if recipe.exam.exam else 0
    return Work(
        steps=steps,
        trained=trained,
        evaluated=round(evaluations * validated * asked),
        examined=round(_examined(recipe, corpus, asked)) if recipe.exam.exam else 0,
        prompts=round((rounds * texts + problems) * asked),
        written=rounds * texts * behaviour.behavioral_max_new_tokens + problems * MAX_NEW_TOKENS,
    )


def _training(
    recipe: Recipe, args: SFTConfig, plan: Plan, corpus: "Corpus", mean: Mapping[str, float]
) -> tuple[int, float, int]:
    """Count the steps of the training, its epochs and its tokens."""
    train, run = corpus.splits["train"].data.table, recipe.run
    per_step = plan.micro_batch * plan.gradient_accumulation
    limits = pass_limits(recipe.sampling, run, max(0, args.max_steps) * per_step)
    views, weights = train["view"].to_pylist(), train["weight"].to_pylist()
    epochs = float(args.num_train_epochs)
    if run.target_tokens is None:
        rates = rates_of(views, weights, limits)
    else:
        rates = rates_within_tokens(partial(rates_of, views, weights), limits, run.target_tokens, mean)
        epochs = epochs_for(run, tokens_of(rates, mean))
    of_sample = _weighted(mean, rates.shares)
    packed = bool(recipe.training.get("packing"))
    rows = rates.size * of_sample / plan.max_length if packed else rates.size
    steps = args.max_steps if args.max_steps > 0 else ceil(epochs * rows / per_step)
    return steps, epochs, round(steps * per_step * (plan.max_length if packed else of_sample))


def _evaluations(args: SFTConfig, steps: int, epochs: float) -> int:
    strategy = str(getattr(args.eval_strategy, "value", args.eval_strategy))
    if strategy == "epoch":
        return ceil(epochs)
    if strategy != "steps":
        return 0
    every = args.eval_steps or args.logging_steps
    return int(steps / (every if every >= 1 else max(1.0, every * steps)))


def _examined(recipe: Recipe, corpus: "Corpus", asked: float) -> float:
    """Count the tokens that base and tuned model score after training."""
    exam = recipe.exam
    items = min(exam.exam_items, _samples_of(corpus, "test", recipe))
    more = sum(arm.partition("+")[2] in WITH_PIECES for arm in exam.exam_arms)
    tokens = items * (len(exam.exam_arms) * asked + more * exam.exam_context_tokens)
    if recipe.model.get("use_peft") and len(exam.adapter_scales) > 1:
        tokens += min(ITEMS, _samples_of(corpus, "validation", recipe)) * len(exam.adapter_scales) * asked
    return tokens


def _samples_of(corpus: "Corpus", split: str, recipe: Recipe) -> int:
    views = corpus.splits[split]["view"][:]
    return sum(view in recipe.exam_views for view in views)


def _mean(counts: TokenCounts, view: str, length: int) -> float:
    lengths, _, _ = counts.lengths_within(view, length)
    return float(lengths.mean()) if len(lengths) else 0.0


def _weighted(mean: Mapping[str, float], shares: Mapping[str, float]) -> float:
    """The mean length over some views, by their shares; views without a length are left out."""
    present = {view: share for view, share in shares.items() if mean.get(view)}
    return sum(mean[view] * share for view, share in present.items()) / max(1e-9, sum(present.values()))

"""How well an answer to a question went, by the measures that fit its task."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from blocklm.evaluation.questions import GenerationTask
from blocklm.evaluation.text_metrics import chrf, edit_similarity, exact_match, gain, identifier_f1, parse_valid
from blocklm.models.generation import Output

Scores = Mapping[str, float]
COPIED = {"edit", "ripple_edit"}  # whose answers replace a text
PARSED = {"fim", "edit", "body", "test", "ripple_edit"}  # whose answers stand between lines that are known


def scores_of(question: GenerationTask, output: Output) -> dict[str, float]:
    """The scores of one answer by name; none for a prompt without a truth, and none that cannot be counted.

    `ended` is 1 where the model ended its answer itself, no later than the truth. `copy_floor` is the edit similarity of the
    text that the truth replaces. `parse_valid` is asked where the lines after the answer are known.
    """
    if question.truth is None:
        return {}
    text, truth, language = output.text, question.truth, question.language
    found: dict[str, float | None] = {
        "exact_match": exact_match(text, truth),
        "edit_similarity": edit_similarity(text, truth),
        "ended": float(output.ended),
    }
    if question.task == "message":
        found["chrf"] = chrf(text, truth)
    else:
        found["identifier_f1"] = identifier_f1(text, truth, language)
    if question.task in PARSED:
        found["parse_valid"] = parse_valid(text, truth, language, question.prefix, question.suffix)
    if question.task in COPIED:
        found["copy_floor"] = edit_similarity(question.before, truth)
    return {name: value for name, value in found.items() if value is not None}


def by_task(answers: Iterable[tuple[str, Scores]]) -> dict[str, dict[str, float]]:
    """The means of each task with the number of `items`; of an edit also the `gain` of its similarity over copying."""
    tasks: dict[str, list[Scores]] = defaultdict(list)
    for task, scores in answers:
        if scores:
            tasks[task].append(scores)
    return {task: _means(some) for task, some in tasks.items()}


def _means(some: list[Scores]) -> dict[str, float]:
    names = dict.fromkeys(name for scores in some for name in scores)
    means = {name: fmean(scores[name] for scores in some if name in scores) for name in names}
    if "copy_floor" in means and (gained := gain(means["edit_similarity"], means["copy_floor"])) is not None:
        means["gain"] = gained
    return {"items": len(some)} | means

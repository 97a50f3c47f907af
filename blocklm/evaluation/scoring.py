"""Scores answers by the metrics that fit their tasks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from blocklm.evaluation.editor_metrics import accepted_share, delta_chrf, first_line_match, is_quiet
from blocklm.evaluation.questions import GenerationTask
from blocklm.evaluation.text_metrics import chrf, edit_similarity, exact_match, gain, identifier_f1, parse_valid
from blocklm.models.generation.decoding import Output

Scores = Mapping[str, float]
REPLACING = {"next_edit", "edit", "ripple_edit"}  # tasks whose answers replace a text
INSERTED = {"completion", "edit", "body", "test", "ripple_edit"}  # tasks whose answers stand between known lines


def scores_of(question: GenerationTask, output: Output) -> dict[str, float]:
    """Score one answer by name; no scores for a prompt without a truth, and none that are undefined.

    `ended` is 1 if the model ended its answer itself, no later than the truth. `copy_floor` is the edit similarity of
    the text that the truth replaces, and `delta_chrf` compares the changes alone. `parse_valid` is given if the lines
    around the answer are known. The task `quiet`, where nothing was to change, has its own score.
    """
    if question.truth is None:
        return {}
    if question.task == "quiet":
        return {
            "quiet": is_quiet(question.before, output.text),
            "edit_similarity": edit_similarity(output.text, question.truth),
        }
    text, truth, language = output.text, question.truth, question.language
    scores: dict[str, float | None] = {
        "exact_match": exact_match(text, truth),
        "edit_similarity": edit_similarity(text, truth),
        "ended": float(output.ended),
    }
    if question.task == "message":
        scores["chrf"] = chrf(text, truth)
    else:
        scores["identifier_f1"] = identifier_f1(text, truth, language)
    if question.task in INSERTED:
        scores["parse_valid"] = parse_valid(text, truth, language, question.prefix, question.suffix)
    if question.task == "completion":
        scores |= {"first_line": first_line_match(text, truth), "accepted": accepted_share(text, truth)}
    if question.task in REPLACING:
        scores["copy_floor"] = edit_similarity(question.before, truth)
        scores["delta_chrf"] = delta_chrf(question.before, text, truth)
    return {name: value for name, value in scores.items() if value is not None}


def by_task(answers: Iterable[tuple[str, Scores]]) -> dict[str, dict[str, float]]:
    """Average the scores of each task, and count its `items`; a task that edits also gets its `gain` over copying."""
    tasks: dict[str, list[Scores]] = defaultdict(list)
    for task, scores in answers:
        if scores:
            tasks[task].append(scores)
    return {task: _means(rows) for task, rows in tasks.items()}


def _means(rows: list[Scores]) -> dict[str, float]:
    names = dict.fromkeys(name for scores in rows for name in scores)
    means = {name: fmean(scores[name] for scores in rows if name in scores) for name in names}
    if "copy_floor" in means and (gained := gain(means["edit_similarity"], means["copy_floor"])) is not None:
        means["gain"] = gained
    return {"items": len(rows)} | means

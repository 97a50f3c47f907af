"""What a run came to: the verdict in one sentence, the few numbers beside it, and the exam by arm and language."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocklm.formatting import count, duration, figure, plural, signed
from blocklm.runs.report.components import Row, Table

Exam = Mapping[str, Any]
MEANING = (
    "Bits per byte say how well a model predicts the text that later commits add: fewer are better. Part of a change can be "
    "that the model has learned the form of the question. They say nothing about whether generated code compiles."
)
RESUMES = "The same command again takes up where this left off."
LANGUAGES_SHOWN = 8
DASH = "\N{EN DASH}"
ORDER = {"base": 0, "tuned": 2}  # of arms: the base model first, the tuned model last, others between


def verdict(manifest: Mapping[str, Any]) -> str:
    """Whether the training helped, in one sentence with its interval; or why that is not known."""
    exam, training = manifest["exam"], manifest["training"] or {}
    if exam is None:
        return _missing_exam_sentence(manifest)
    sentence = f"On {plural(exam['commits'], 'later commit')} that it had not seen, {_comparison_sentence(exam, 'base model')}."
    if "against_previous" in exam:
        sentence += f" There, {_comparison_sentence(exam['against_previous'], 'run that it goes on from')}."
    if training.get("rolled_back"):
        sentence += " It was therefore rolled back: the result of that run stands in its place."
    return sentence


def _comparison_sentence(result: Exam, other: str) -> str:
    change, (low, high) = result["delta_percent"], result["ci95"]
    if result["verdict"] == "no detectable change":
        said = (
            f"the tuned model shows no detectable change against the {other}: {signed(change)} bits per byte "
            f"(95 % interval {signed(low)} to {signed(high)})"
        )
    else:
        word = "fewer" if change < 0 else "more"
        near, far = sorted((abs(low), abs(high)))
        said = (
            f"the tuned model needs {abs(change):.1f} % {word} bits per byte than the {other} "
            f"(95 % interval {near:.1f} % to {far:.1f} % {word})"
        )
    return said.replace(" %", "\N{NO-BREAK SPACE}%")


def _missing_exam_sentence(manifest: Mapping[str, Any]) -> str:
    if manifest["status"] == "complete":
        return "No exam was run: whether the training helped is not known."
    phases = manifest["phases"]
    broken = next((phase for phase in phases if phase["status"] != "complete"), phases[-1] if phases else {})
    where = f"in its {broken['name']} phase" if broken else "at its start"
    if manifest["status"] == "failed":
        reason = f" ({broken['reason']})" if broken.get("reason") else ""
        return f"The run failed {where}{reason}: nothing is proved."
    if broken.get("status") == "running":
        return f"The run is still {where}, or was killed there: nothing is proved yet. {RESUMES}"
    return f"The run was interrupted {where}: nothing is proved yet. {RESUMES}"


def key_numbers(manifest: Mapping[str, Any], last_step: int | None) -> list[tuple[str, str, str]]:
    """What a reader wants at a glance, as (label, number, what it is of)."""
    exam, training, corpus, plan = (manifest[name] or {} for name in ("exam", "training", "corpus", "plan"))
    found = []
    if exam:
        base, tuned = (exam[arm]["bits_per_byte"] for arm in ("base", "tuned"))
        arrow = f"{base:.3f} \N{RIGHTWARDS ARROW} {tuned:.3f}"
        found.append(("Bits per byte", arrow, "base to tuned model"))
        found.append(("Exam", plural(exam["commits"], "commit"), f"{plural(exam['items'], 'edit')} after the split"))
    used = (corpus.get("splits") or {}).get("train", {}).get("used")
    if used is not None:
        tokens = corpus["splits"]["train"].get("tokens")
        found.append(("Trained on", plural(used, "sample"), f"{plural(tokens, 'token')}" if tokens else ""))
    steps = training.get("steps") or last_step
    if steps:
        of = f"of {count(plan['steps'])} planned" if plan.get("steps") else ""
        speed = training.get("tokens_per_second")
        found.append(("Steps", count(steps), f"{figure(speed)} tokens a second" if speed else of))
    seconds = sum(phase["seconds"] or 0 for phase in manifest["phases"])
    device = (plan.get("device") or {}).get("name")
    counted = "in the phases that ended" if any(phase["seconds"] is None for phase in manifest["phases"]) else "in all"
    found.append(("Time", duration(seconds), f"{counted}, on {device}" if device else counted))
    return found


def arms(exam: Exam) -> Table:
    """Bits per byte of every arm, the base model's change to it, and the tuned model's change from it."""
    scores = {name: value for name, value in exam.items() if isinstance(value, dict) and "bits_per_byte" in value}
    longest = max(arm["bits_per_byte"] for arm in scores.values())
    rows = [
        Row(
            (name, f"{arm['bits_per_byte']:.4f}", *_changes(exam, name)),
            arm["bits_per_byte"] / longest if longest else None,
        )
        for name, arm in sorted(scores.items(), key=lambda entry: ORDER.get(entry[0], 1))
    ]
    for name, other in exam.get("models", {}).items():
        cells = (DASH, DASH, *_change(other["tuned_against_it"]), other["tuned_against_it"]["verdict"])
        rows.append(Row((name, f"{other['bits_per_byte']:.4f}", *cells)))
    asked = f"{plural(exam['items'], 'edit')} of {plural(exam['commits'], 'commit')}, {count(exam['added_bytes'])} added bytes"
    note = f"Asked: {asked}. The interval is a paired bootstrap that resamples commits."
    head = ("Arm", "Bits per byte", "Against base", "95 % interval", "Tuned against it", "95 % interval", "Verdict")
    return Table("Bits per byte by arm", head, tuple(rows), (1, 2, 3, 4, 5), note)


def _changes(exam: Exam, arm: str) -> tuple[str, ...]:
    """The change of an arm against the base model, of the tuned model against the arm, and what the second shows."""
    others = (exam.get("arms") or {}).get(arm, {})
    against_base = exam if arm == "tuned" else others.get("against_base", {})
    tuned_against_it = exam if arm == "base" else others.get("tuned_against_it", {})
    return (*_change(against_base), *_change(tuned_against_it), tuned_against_it.get("verdict", DASH))


def _change(result: Mapping[str, Any]) -> tuple[str, str]:
    """A change in percent and its interval; dashes where nothing was compared."""
    if "ci95" not in result:
        return DASH, DASH
    return signed(result["delta_percent"]), " to ".join(map(signed, result["ci95"]))


def tasks(exam: Exam) -> Table | None:
    """What both models did of each task, None if none was asked."""
    if not exam.get("tasks"):
        return None
    rows = []
    for name, task in exam["tasks"].items():
        change, score = task["change"], task["score"]
        low, high = (f"{bound:+.3f}".replace("-", "\N{MINUS SIGN}") for bound in change["ci95"])
        numbers = f"{task['base'][score]:.3f} \N{RIGHTWARDS ARROW} {task['tuned'][score]:.3f}"
        about = (name.replace("_", " "), score.replace("_", " "), count(task["items"]), count(task["commits"]))
        floor = task["base"].get("copy_floor")
        copied = "\N{EN DASH}" if floor is None else f"{floor:.3f}"
        rows.append(Row((*about, numbers, copied, f"{low} to {high}", change["verdict"])))
    head = ("Task", "Judged by", "Items", "Commits", "Base to tuned", "Copied", "95 % interval", "Verdict")
    note = (
        "Greedy answers; a verdict holds for all tasks together, after Holm. Of a dead API less is better. Copied is the score of "
        "leaving the lines as they are."
    )
    return Table("What the models do", head, tuple(rows), (2, 3, 4, 5, 6), note)


def comparisons(exam: Exam) -> list[tuple[str, float, float, float]]:
    """What was compared, as (name, change, low, high) in percent."""
    found = [("tuned against base", exam)]
    if "against_previous" in exam:
        found.append(("tuned against previous", exam["against_previous"]))
    return [(name, result["delta_percent"], *result["ci95"]) for name, result in found]


def by_language(items: Sequence[Mapping[str, Any]]) -> Table | None:
    """Bits per byte by language, the most bytes first; None without single items."""
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["language"] or "unknown"].append(item)
    totals = {
        name: (sum(i["bytes"] for i in of), sum(i["base_bits"] for i in of), sum(i["tuned_bits"] for i in of))
        for name, of in grouped.items()
    }
    order = sorted((name for name in totals if totals[name][0] and totals[name][1]), key=lambda name: -totals[name][0])
    rows = []
    for name in order[:LANGUAGES_SHOWN]:
        size, base, tuned = totals[name]
        commits = len({item["commit"] for item in grouped[name]})
        numbers = (f"{base / size:.3f} \N{RIGHTWARDS ARROW} {tuned / size:.3f}", signed(100 * (tuned / base - 1)))
        rows.append(Row((name, count(len(grouped[name])), count(commits), *numbers)))
    if not rows:
        return None
    note = "Without intervals: of few commits a difference between languages may be chance."
    left = len(order) - len(rows)
    if left:
        note += f" {plural(left, 'language')} with fewer bytes left out."
    head = ("Language", "Edits", "Commits", "Base to tuned", "Change")
    return Table("Bits per byte by language", head, tuple(rows), (1, 2, 3, 4), note)


def usage_folder(run_dir: Path, recipe: Mapping[str, Any]) -> str:
    """How a reader elsewhere names the run directory: as the recipe does, or by its name alone where that is absolute."""
    given = Path(str(recipe.get("output_dir") or run_dir))
    return given.name if given.is_absolute() else str(given)

"""Describes the result of a run: the verdict in words, key numbers, and the exam by arm, task and language."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocklm.formatting import count, duration, figure, plural, signed
from blocklm.runs.report.components import Row, Table

Exam = Mapping[str, Any]
MEANING = (
    "Bits per byte measure how well a model predicts the text that later commits add: fewer are better. Part of a gain "
    "can come from learning the form of the questions. They do not say whether generated code compiles."
)
RESUMES = "Run the same command again to resume it."
LANGUAGES_SHOWN = 8
DASH = "\N{EN DASH}"
ORDER = {"base": 0, "tuned": 2}  # of arms: the base model first, the tuned model last, others between


def verdict(manifest: Mapping[str, Any]) -> str:
    """Describe in words whether the training helped, with the interval; or why that is not known."""
    exam, training = manifest["exam"], manifest["training"] or {}
    if exam is None:
        return _missing_exam_sentence(manifest)
    commits = plural(exam["commits"], "later commit")
    sentence = f"On {commits} that it had not seen, {_comparison_sentence(exam, 'base model')}."
    if "against_previous" in exam:
        sentence += f" There, {_comparison_sentence(exam['against_previous'], 'run that it continues')}."
    if training.get("rolled_back"):
        sentence += " It was therefore rolled back: the result of that run replaces it."
    return sentence


def _comparison_sentence(result: Exam, other: str) -> str:
    change, (low, high) = result["delta_percent"], result["ci95"]
    if result["verdict"] == "no detectable change":
        sentence = (
            f"the tuned model shows no detectable change against the {other}: {signed(change)} bits per byte "
            f"(95 % interval {signed(low)} to {signed(high)})"
        )
    else:
        word = "fewer" if change < 0 else "more"
        near, far = sorted((abs(low), abs(high)))
        sentence = (
            f"the tuned model needs {abs(change):.1f} % {word} bits per byte than the {other} "
            f"(95 % interval {near:.1f} % to {far:.1f} % {word})"
        )
    return sentence.replace(" %", "\N{NO-BREAK SPACE}%")


def _missing_exam_sentence(manifest: Mapping[str, Any]) -> str:
    if manifest["status"] == "complete":
        return "No exam was run: whether the training helped is not known."
    phases = manifest["phases"]
    last = next((phase for phase in phases if phase["status"] != "complete"), phases[-1] if phases else {})
    where = f"in its {last['name']} phase" if last else "at its start"
    if manifest["status"] == "failed":
        reason = f" ({last['reason']})" if last.get("reason") else ""
        return f"The run failed {where}{reason}: nothing is proved."
    if last.get("status") == "running":
        return f"The run is still {where}, or was killed there: nothing is proved yet. {RESUMES}"
    return f"The run was interrupted {where}: nothing is proved yet. {RESUMES}"


def key_numbers(manifest: Mapping[str, Any], last_step: int | None) -> list[tuple[str, str, str]]:
    """List the key numbers of a run as (label, number, explanation)."""
    exam, training, corpus, plan = (manifest[name] or {} for name in ("exam", "training", "corpus", "plan"))
    numbers = []
    if exam:
        base, tuned = (exam[arm]["bits_per_byte"] for arm in ("base", "tuned"))
        arrow = f"{base:.3f} \N{RIGHTWARDS ARROW} {tuned:.3f}"
        numbers.append(("Bits per byte", arrow, "base to tuned model"))
        numbers.append(
            ("Exam", plural(exam["commits"], "commit"), f"{plural(exam['items'], 'question')} after the split")
        )
    used = (corpus.get("splits") or {}).get("train", {}).get("used")
    if used is not None:
        tokens = corpus["splits"]["train"].get("tokens")
        numbers.append(("Trained on", plural(used, "sample"), f"{plural(tokens, 'token')}" if tokens else ""))
    steps = training.get("steps") or last_step
    if steps:
        planned = f"of {count(plan['steps'])} planned" if plan.get("steps") else ""
        speed = training.get("tokens_per_second")
        numbers.append(("Steps", count(steps), f"{figure(speed)} tokens a second" if speed else planned))
    seconds = sum(phase["seconds"] or 0 for phase in manifest["phases"])
    device = (plan.get("device") or {}).get("name")
    scope = "in the phases that ended" if any(phase["seconds"] is None for phase in manifest["phases"]) else "in all"
    numbers.append(("Time", duration(seconds), f"{scope}, on {device}" if device else scope))
    return numbers


def arms(exam: Exam) -> Table:
    """Make a table of each arm's bits per byte, its change from the base, and the tuned model's change from it."""
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
    note = (
        f"Scored: {plural(exam['items'], 'question')} of {plural(exam['commits'], 'commit')}, "
        f"{count(exam['added_bytes'])} added bytes. The interval is a paired bootstrap that resamples commits."
    )
    head = ("Arm", "Bits per byte", "Against base", "95 % interval", "Tuned against it", "95 % interval", "Verdict")
    return Table("Bits per byte by arm", head, tuple(rows), (1, 2, 3, 4, 5), note)


def _changes(exam: Exam, arm: str) -> tuple[str, ...]:
    """Format an arm's change from the base, the tuned model's change from the arm, and the verdict on the latter."""
    others = (exam.get("arms") or {}).get(arm, {})
    against_base = exam if arm == "tuned" else others.get("against_base", {})
    tuned_against_it = exam if arm == "base" else others.get("tuned_against_it", {})
    return (*_change(against_base), *_change(tuned_against_it), tuned_against_it.get("verdict", DASH))


def _change(result: Mapping[str, Any]) -> tuple[str, str]:
    """Format a change in percent and its interval; dashes if nothing was compared."""
    if "ci95" not in result:
        return DASH, DASH
    return signed(result["delta_percent"]), " to ".join(map(signed, result["ci95"]))


def tasks(exam: Exam) -> Table | None:
    """Make a table of both models' scores in each task; None if there were no tasks."""
    if not exam.get("tasks"):
        return None
    rows = []
    for name, task in exam["tasks"].items():
        change, score = task["change"], task["score"]
        low, high = (f"{bound:+.3f}".replace("-", "\N{MINUS SIGN}") for bound in change["ci95"])
        numbers = f"{task['base'][score]:.3f} \N{RIGHTWARDS ARROW} {task['tuned'][score]:.3f}"
        about = (name.replace("_", " "), score.replace("_", " "), count(task["items"]), count(task["commits"]))
        rows.append(Row((*about, numbers, f"{low} to {high}", change["verdict"])))
    head = ("Task", "Judged by", "Items", "Commits", "Base to tuned", "95 % interval", "Verdict")
    note = (
        "Answers are greedy. The verdicts hold for all tasks together, by Holm's method. Fewer uses of a dead API are "
        "better. Leaving the lines unchanged scores no delta chrF."
    )
    return Table("What the models do", head, tuple(rows), (2, 3, 4, 5), note)


def comparisons(exam: Exam) -> list[tuple[str, float, float, float]]:
    """List the comparisons with the tuned model as (name, change, low, high) in percent."""
    results = [("tuned against base", exam)]
    if "against_previous" in exam:
        results.append(("tuned against previous", exam["against_previous"]))
    return [(name, result["delta_percent"], *result["ci95"]) for name, result in results]


def by_language(items: Sequence[Mapping[str, Any]]) -> Table | None:
    """Make a table of bits per byte by language, the most bytes first; None without single items."""
    grouped: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for item in items:
        grouped[item["language"] or "unknown"].append(item)
    totals = {
        name: tuple(sum(item[number] for item in group) for number in ("bytes", "base_bits", "tuned_bits"))
        for name, group in grouped.items()
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
    note = "There are no intervals: with few commits a difference between languages may be chance."
    left_out = len(order) - len(rows)
    if left_out:
        note += f" {plural(left_out, 'language')} with fewer bytes left out."
    head = ("Language", "Questions", "Commits", "Base to tuned", "Change")
    return Table("Bits per byte by language", head, tuple(rows), (1, 2, 3, 4), note)


def usage_folder(run_dir: Path, recipe: Mapping[str, Any]) -> str:
    """Return the run directory as the recipe names it; only its last part if that is absolute."""
    given = Path(str(recipe.get("output_dir") or run_dir))
    return given.name if given.is_absolute() else str(given)

"""Makes the tables of an exam's result, for the report and for the terminal."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocklm.formatting import count, plural, signed
from blocklm.runs.report.components import Row, Table

Exam = Mapping[str, Any]
LANGUAGES_SHOWN = 8
DASH = "\N{EN DASH}"
ARROW = "\N{RIGHTWARDS ARROW}"
CONTEXTS = ("none", "file", "unnamed", "", "bm25", "hybrid")  # what arms are shown, from the least to the most


def arms(exam: Exam) -> Table:
    """Make a table of each arm's bits per byte, its change from the base, and the tuned model's change from it."""
    scores = {name: value for name, value in exam.items() if isinstance(value, dict) and "bits_per_byte" in value}
    longest = max(arm["bits_per_byte"] for arm in scores.values())
    rows = [
        Row(
            (name, f"{arm['bits_per_byte']:.4f}", *_changes(exam, name)),
            arm["bits_per_byte"] / longest if longest else None,
        )
        for name, arm in sorted(scores.items(), key=lambda entry: _order(entry[0]))
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


def _order(arm: str) -> tuple[bool, int, str]:
    """Sort base and tuned model by what they are shown, and other models after them."""
    model, _, context = arm.partition("+")
    if model in ("base", "tuned") and context in CONTEXTS:
        return False, CONTEXTS.index(context), model
    return True, 0, arm


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


def parts(exam: Exam) -> Table | None:
    """Make a table of base and tuned model on parts of the questions: by view, and by whether training had the lines.

    None if there are no such parts.
    """
    found = [("", part) for part in exam["slices"].get("view", [])]
    found += [("lines ", part) for part in exam["slices"].get("lines", [])]
    rows = [
        Row(
            (
                f"{title}{part['name'].replace('_', ' ')}",
                count(part["items"]),
                f"{part['base']:.3f} {ARROW} {part['tuned']:.3f}",
                *_change(part),
                part["verdict"],
            )
        )
        for title, part in found
    ]
    head = ("Questions", "Number", "Base to tuned", "Change", "95 % interval", "Verdict")
    return Table("Bits per byte by kind of question", head, tuple(rows), (1, 2, 3, 4)) if rows else None


def identifiers(exam: Exam) -> Table | None:
    """Make a table of the bits for the repository's identifiers, by where they stand; None if none were measured."""
    rows = [
        Row(
            (
                f"{place}{f', with {given}' if given else ''}",
                count(part["count"]),
                f"{part['base']:.2f} {ARROW} {part['tuned']:.2f}",
                *_change(part),
                "too few to tell" if part["few"] else part["verdict"],
            )
        )
        for given, places in (exam.get("identifiers") or {}).items()
        for place, part in places.items()
    ]
    if not rows:
        return None
    head = ("Where it stands", "Number", "Base to tuned", "Change", "95 % interval", "Verdict")
    note = (
        "Identifiers of the training text that a later commit wrote. What stands in the prompt can be copied; only what "
        "stands nowhere in it is known."
    )
    return Table("Bits for an identifier of this repository", head, tuple(rows), (1, 2, 3, 4), note)


def controls(exam: Exam) -> Table | None:
    """Make a table of the adapters of other repositories and of their mean; None if there were none."""
    if not exam.get("controls"):
        return None
    rows = []
    for control in exam["controls"]:
        arm = exam["arms"][control["name"]]
        home = _change(control["own_gain"] or {})
        rows.append(Row((control["name"], f"{arm['bits_per_byte']:.4f}", *_change(arm["tuned_against_it"]), *home)))
    mean = exam["controls_mean"]
    cells = ("mean of them", f"{mean['mean_bits_per_byte']:.4f}", *_change(mean["tuned_against_it"]), DASH, DASH)
    head = ("Adapter", "Bits per byte", "Own against it", "95 % interval", "Its gain at home", "95 % interval")
    note = (
        "An adapter of another repository cannot know this one: what it gains comes from the form of the questions and "
        "from code in general. One that gains nothing at home proves nothing here. A joint adapter that learned this "
        "repository too does know it."
    )
    caption = f"The own adapter is number {exam['rank']['place']} of {exam['rank']['of']}"
    return Table(caption, head, (*rows, Row(cells)), (1, 2, 3, 4, 5), note)


def by_run(exams: Mapping[Path, Exam]) -> Table:
    """Make a table of the exams of several runs, by run directory: the own adapter of each, and its controls."""
    rows = []
    for path, exam in exams.items():
        rows.append(Row((path.name, "own", f"{exam['tuned']['bits_per_byte']:.4f}", *_changes(exam, "tuned"))))
        for control in exam.get("controls", ()):
            arm = exam["arms"][control["name"]]
            changes = _changes(exam, control["name"])
            rows.append(Row((path.name, Path(control["path"]).name, f"{arm['bits_per_byte']:.4f}", *changes)))
    head = ("Run", "Adapter", "Bits per byte", "Against base", "95 % interval", "Own against it", "95 % interval")
    return Table("Adapters in the exam of each run", (*head, "Verdict"), tuple(rows), (2, 3, 4, 5, 6))


def tasks(exam: Exam) -> Table | None:
    """Make a table of both models' scores in each task; None if there were no tasks."""
    if not exam.get("tasks"):
        return None
    rows = []
    for name, task in exam["tasks"].items():
        change, score = task["change"], task["score"]
        low, high = (f"{bound:+.3f}".replace("-", "\N{MINUS SIGN}") for bound in change["ci95"])
        numbers = f"{task['base'][score]:.3f} {ARROW} {task['tuned'][score]:.3f}"
        about = (name.replace("_", " "), score.replace("_", " "), count(task["items"]), count(task["commits"]))
        rows.append(Row((*about, numbers, f"{low} to {high}", change["verdict"])))
    head = ("Task", "Judged by", "Items", "Commits", "Base to tuned", "95 % interval", "Verdict")
    note = (
        "Answers are greedy. The verdicts hold for all tasks together, by Holm's method. Fewer uses of a dead API are "
        "better. Leaving the lines unchanged scores no delta chrF."
    )
    return Table("What the models do", head, tuple(rows), (2, 3, 4, 5), note)


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
        numbers = (f"{base / size:.3f} {ARROW} {tuned / size:.3f}", signed(100 * (tuned / base - 1)))
        rows.append(Row((name, count(len(grouped[name])), count(commits), *numbers)))
    if not rows:
        return None
    note = "There are no intervals: with few commits a difference between languages may be chance."
    left_out = len(order) - len(rows)
    if left_out:
        note += f" {plural(left_out, 'language')} with fewer bytes left out."
    head = ("Language", "Questions", "Commits", "Base to tuned", "Change")
    return Table("Bits per byte by language", head, tuple(rows), (1, 2, 3, 4), note)

"""Describes the result of a run: the verdict in words, and key numbers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blocklm.formatting import count, duration, figure, plural, signed

Exam = Mapping[str, Any]
MEANING = (
    "Bits per byte measure how well a model predicts the text that later commits add: fewer are better. Part of a gain "
    "can come from learning the form of the questions. They do not say whether generated code compiles."
)
RESUMES = "Run the same command again to resume it."


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


def own_or_form(exam: Exam) -> str:
    """Describe in words whether it was this repository that was learned: the run among adapters of other ones.

    Args:
        exam: a result with controls.
    """
    rank, mean = exam["rank"], exam["controls_mean"]["tuned_against_it"]
    return (
        f"Among {rank['of']} adapters, the run's own and {rank['of'] - 1} of other repositories, its own is number "
        f"{rank['place']} on this repository: {_comparison_sentence(mean, 'mean of the others')}."
    )


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


def comparisons(exam: Exam) -> list[tuple[str, float, float, float]]:
    """List the comparisons with the tuned model as (name, change, low, high) in percent."""
    results = [("tuned against base", exam)]
    if "against_previous" in exam:
        results.append(("tuned against previous", exam["against_previous"]))
    return [(name, result["delta_percent"], *result["ci95"]) for name, result in results]


def usage_folder(run_dir: Path, recipe: Mapping[str, Any]) -> str:
    """Return the run directory as the recipe names it; only its last part if that is absolute."""
    given = Path(str(recipe.get("output_dir") or run_dir))
    return given.name if given.is_absolute() else str(given)

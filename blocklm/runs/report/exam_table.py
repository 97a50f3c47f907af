"""Formats the exam's result as text: after a run, in its model card and in `scripts/evaluate.py`."""

from typing import Any

from blocklm.runs.report.text import text_lines
from blocklm.runs.report.verdict import arms, tasks


def exam_table(result: dict[str, Any]) -> str:
    """Format the result: arms, slices, forgetting, tasks, the check, and how certain the change is."""
    lines = [
        f"exam on {result['commits']} later commits ({result['items']} questions, {result['added_bytes']} added bytes)",
        *text_lines(arms(result)),
        *_describe_slices("", result["slices"].get("view", [])),
        *_describe_slices("lines ", result["slices"].get("lines", [])),
    ]
    lines += _describe_identifiers(result.get("identifiers", {})) + _describe_controls(result)
    if lost := result["forgetting"]:
        flag = ", more than 3: the model forgets" if lost["flagged"] else ""
        lines.append(f"  general text and code: {lost['rise_percent']:+.1f} % bits{flag}")
    if (task_table := tasks(result)) is not None:
        lines += text_lines(task_table)
    if check := result.get("check"):
        lines += _describe_check(check)
    return "\n".join(lines + _describe_power(result))


def _describe_identifiers(by_retrieval: dict[str, Any]) -> list[str]:
    """Describe the bits for the repository's identifiers by where they stand; only what stands nowhere is knowledge."""
    return [
        f"  identifiers {place}{f', with {given}' if given else ''}: base {part['base']:.2f}, tuned {part['tuned']:.2f} "
        f"bits each in {part['count']}, " + ("too few to tell" if part["few"] else _describe_change(part))
        for given, parts in by_retrieval.items()
        for place, part in parts.items()
    ]


def _describe_controls(result: dict[str, Any]) -> list[str]:
    """Describe the rank of the own adapter among those of other repositories, and what these gain at home."""
    if "controls" not in result:
        return []
    rank, mean = result["rank"], result["controls_mean"]
    return [
        f"  the own adapter is number {rank['place']} of {rank['of']}; against the mean of the controls, "
        f"{mean['mean_bits_per_byte']:.4f}: {_describe_change(mean['tuned_against_it'])}",
        *(
            f"  {control['name']} on its own repository: "
            + ("not measured" if control["own_gain"] is None else _describe_change(control["own_gain"]))
            for control in result["controls"]
        ),
    ]


def _describe_slices(title: str, parts: list[dict[str, Any]]) -> list[str]:
    """Describe parts of the questions: each view, and those whose lines are all in the training data or are not."""
    return [
        f"  {title}{part['name']}: base {part['base']:.4f}, tuned {part['tuned']:.4f} in {part['items']} questions, "
        f"{_describe_change(part)}"
        for part in parts
    ]


def _describe_power(result: dict[str, Any]) -> list[str]:
    """Describe how certain the result is, and how many commits it would take to show the change."""
    low, high = result["ci95"]
    lines = []
    if needed := result["commits_needed"]:
        lines.append(
            f"  about {needed} such commits would be needed to show a change of {result['delta_percent']:+.1f} %"
        )
    if result["commits"] < 30:
        lines.append(
            f"  the interval comes from {result['commits']} commits and is {high - low:.1f} points wide; more history "
            "narrows it"
        )
    return lines


def _describe_change(change: dict[str, Any]) -> str:
    low, high = change["ci95"]
    return f"{change['delta_percent']:+.1f} %, 95 % interval [{low:+.1f} %, {high:+.1f} %]: {change['verdict']}"


def _describe_check(check: dict[str, Any]) -> list[str]:
    """Describe the result of the repository's own check."""
    left_out = ", ".join(f"{count} {kind}" for kind, count in check["left_out"].items())
    note = [f"  left out of the check, because the commit itself does not pass: {left_out}"] if left_out else []
    if not check["items"]:
        return [f"  check `{check['command']}`: no result, because no edit is left", *note]
    rates = [f"{100 * check[arm]['pass_at'][k]:.0f} %" for k in check["base"]["pass_at"] for arm in ("base", "tuned")]
    low, high = (100 * edge for edge in check["ci95"])
    lines = [
        f"  check `{check['command']}` on {check['items']} edits of {check['commits']} commits: base passes {rates[0]}, "
        f"tuned {rates[1]}, the lines as they were {100 * check['unchanged']['pass_rate']:.0f} %; "
        f"{100 * check['delta']:+.0f} points, 95 % interval [{low:+.0f}, {high:+.0f}]: {check['verdict']}"
    ]
    if check["samples"] > 1:
        lines.append(f"  one of {check['samples']} samples passes: base {rates[2]}, tuned {rates[3]}")
    return lines + note

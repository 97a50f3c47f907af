"""Formats the exam's result as text: after a run, in its model card and in `scripts/evaluate.py`."""

from typing import Any

from blocklm.runs.report.exam_tables import arms, controls, identifiers, parts, tasks
from blocklm.runs.report.text import text_lines


def exam_text(result: dict[str, Any]) -> str:
    """Format the result: arms, parts, identifiers, controls, forgetting, tasks, the check, and how certain it is."""
    lines = [
        f"exam on {result['commits']} later commits ({result['items']} questions, {result['added_bytes']} added bytes)"
    ]
    for table in (arms(result), controls(result), parts(result), identifiers(result), tasks(result)):
        if table is not None:
            lines += text_lines(table)
    if lost := result["forgetting"]:
        flag = ", more than 3: the model forgets" if lost["flagged"] else ""
        lines.append(f"general text and code: {lost['rise_percent']:+.1f} % bits{flag}")
    if check := result.get("check"):
        lines += _describe_check(check)
    return "\n".join(lines + _describe_power(result))


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

"""Formats the numbers of a manifest as tables for the terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocklm.formatting import count, gib
from blocklm.runs.report.components import Row, Table
from blocklm.runs.report.provenance import funnel, memory, redactions, repositories, splits
from blocklm.runs.report.text import text_lines

UNREADABLE_SHOWN = 5
QUANTILES = ("p50", "p90", "p99")


def repository_table(repository: dict[str, Any]) -> str:
    """Describe the mined repository: commits, languages, sizes, unreadable commits, and advice."""
    span = f"{repository['first_commit_time'][:10]} to {repository['last_commit_time'][:10]}"
    languages = repository["languages"]
    lines = max(1, sum(languages.values()))
    shares = ", ".join(f"{name} {100 * count / lines:.0f} %" for name, count in list(languages.items())[:6])
    table_lines = [
        f"{repository['name']} at {repository['head'][:12]}",
        f"  {repository['commits']} commits ({repository['merges']} merges) by {repository['authors']} authors, {span}, "
        f"{repository['branches']} branches",
        f"  changed lines: {shares}",
        *(_quantile_line(repository, name) for name in ("files_per_commit", "lines_per_commit", "lines_per_file")),
        f"  messages that describe their change: {repository['telling_messages_percent']} %",
        *(f"  unreadable: {sha[:12]} {why}" for sha, why in list(repository["unreadable"].items())[:UNREADABLE_SHOWN]),
    ]
    if len(repository["unreadable"]) > UNREADABLE_SHOWN:
        table_lines.append(f"  and {len(repository['unreadable']) - UNREADABLE_SHOWN} more unreadable commits")
    return "\n".join(table_lines + [f"  note: {sentence}" for sentence in repository["advice"]])


def _quantile_line(repository: dict[str, Any], name: str) -> str:
    values = " · ".join(f"{quantile} {value}" for quantile, value in repository[name].items())
    return f"  {name.replace('_', ' ')}: {values}"


def corpus_table(corpus: dict[str, Any]) -> str:
    """Describe the corpus: funnels, redactions, duplicates, splits, weights, and leakage between the splits."""
    return "\n".join(_corpus_lines(corpus))


def _corpus_lines(corpus: dict[str, Any]) -> Iterator[str]:
    yield from text_lines(funnel(corpus["funnel"], "Changes", "something to learn from"))
    yield from text_lines(
        funnel(corpus["hunk_funnel"], "Hunks of changes that pass", "to learn from, or for the exam")
    )
    yield redactions(corpus)
    yield from text_lines(splits(corpus))
    yield from _weight_lines(corpus["weights"])
    if (by_repository := repositories(corpus)) is not None:
        yield from text_lines(by_repository)
    if corpus["leakage"]:
        yield f"leakage from train into test, measured before {corpus['duplicates']['leak']} leaks were removed:"
    for name, leak in corpus["leakage"].items():
        near, verbatim = leak["near_duplicate_bytes_percent"], leak["verbatim_lines_percent"]
        yield f"{'':8s}  {name:18s} {near:.1f} % of bytes near-duplicate, {verbatim:.1f} % of lines verbatim"


def _weight_lines(weights: dict[str, Any]) -> Iterator[str]:
    if weights["survival"]:
        curve = ", ".join(f"{100 * share:.0f} % after {age:.0f} days" for age, share in weights["survival"])
        yield f"lines still present at the end of training: {curve}"
    half_life = weights["half_life_days"]
    aging = f"count half after {half_life:.0f} days" if half_life else "count the same at any age"
    yield f"changes {aging}; their weights leave {weights['effective_samples']} of {weights['of']} hunks effective"


def length_table(report: dict[str, Any], max_length: int, batch: int) -> str:
    """Format samples and tokens by view, and the share of padding in a batch."""
    rows = []
    for view, numbers in report["views"].items():
        counts = (count(numbers[name]) for name in ("samples", "tokens", *QUANTILES))
        shares = (f"{numbers[name]:.1f} %" for name in ("trimmed_percent", "too_long_percent"))
        rows.append(Row((view, *counts, *shares)))
    head = ("View", "Samples", "Tokens", *QUANTILES, "Trimmed", "Too long")
    table = Table(f"Tokens of samples, at most {count(max_length)}", head, tuple(rows), tuple(range(1, len(head))))
    padding = ", ".join(f"{share:.0f} % {name}" for name, share in report["padding_percent"].items())
    return "\n".join([*text_lines(table), f"padding in batches of {batch}: {padding}"])


def probe_table(scores: dict[str, dict[str, float]]) -> str:
    """Format the base model's bits per byte by view and family of prompts, the fewest first."""
    rows = tuple(
        Row((view, ", ".join(f"{name} {bits:.3f}" for name, bits in families.items())))
        for view, families in scores.items()
    )
    caption = "Prompts that suit the base model: bits per byte of validation's changes, fewer are better"
    return "\n".join(text_lines(Table(caption, ("View", "Families"), rows)))


def plan_table(plan: dict[str, Any], by_length: dict[int, int | None]) -> str:
    """Describe the memory that a run would need, its batch, and the largest micro-batch at other lengths."""
    device, needed = plan["device"], memory(plan)
    lines = [f"{device['name']}: {gib(device['budget'])} for tensors of {gib(device['total'])}"]
    lines += text_lines(needed) if needed is not None else []
    lines.append(
        f"micro-batch {plan['micro_batch']}, accumulation {plan['gradient_accumulation']}, length {plan['max_length']}"
    )
    lines += [f"  {reason}" for reason in plan["reasons"]]
    fitting = ", ".join(f"{length}: {batch or 'none'}" for length, batch in by_length.items())
    return "\n".join([*lines, f"largest micro-batch by length, up to 32: {fitting}"])


def export_lines(folder: Path, found: dict[str, Any], of: str) -> str:
    """Describe an exported model, and how far its answers are from those of its source.

    Args:
        folder: folder of the exported files.
        found: type, size and measured differences of the export.
        of: name of the source in the text.
    """
    kind = found.get("dtype", found.get("file"))
    lines = [f"{folder}: {kind}, {found['bytes'] / 1e6:.1f} MB"]
    if "unchecked" in found:
        return "\n".join([*lines, f"  not checked: {found['unchecked']}"])
    if "share_lost_to_rounding" in found:
        lines.append(f"  rounding loses {100 * found['share_lost_to_rounding']:.1f} % of what the adapter changes")
    lines.append(
        f"  logits differ from {of} by {found['max_logit_difference']:.3g} at most, "
        f"{found['mean_logit_difference']:.3g} on average; the likeliest next token is the same at "
        f"{100 * found['same_next_token']:.0f} % of positions"
    )
    sameness = "the same" if found["same_greedy_text"] else "another"
    return "\n".join([*lines, f"  {sameness} greedy text: {found['text']!r}"])


def adapter_lines(folder: Path, found: dict[str, Any]) -> str:
    """Describe an exported adapter, or why it was not exported."""
    if "refused" in found:
        return f"{folder}: no adapter, the merged model holds it: {found['refused']}"
    lines = f"{folder}: {found['file']}, {found['bytes'] / 1e6:.1f} MB, {found['matrices']} matrices adapted"
    return f"{lines}\n  not checked: {found['unchecked']}" if "unchecked" in found else lines

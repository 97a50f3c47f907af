"""What was mined, and what became of it, as a person reads it; the manifest holds the same numbers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blocklm.formatting import gib
from blocklm.mining.filters import RULE

UNREADABLE_SHOWN = 5
KINDS_SHOWN = 8


def repository_table(repository: dict[str, Any]) -> str:
    """What was mined and what it is good for, as a person reads it; the manifest holds the same numbers."""
    span = f"{repository['first_commit_time'][:10]} to {repository['last_commit_time'][:10]}"
    languages = repository["languages"]
    lines = max(1, sum(languages.values()))
    shares = ", ".join(f"{name} {100 * count / lines:.0f} %" for name, count in list(languages.items())[:6])
    table = [
        f"{repository['name']} at {repository['head'][:12]}",
        f"  {repository['commits']} commits ({repository['merges']} merges) by {repository['authors']} authors, {span}, "
        f"{repository['branches']} branches",
        f"  changed lines: {shares}",
        *(_quantile_line(repository, name) for name in ("files_per_commit", "lines_per_commit", "lines_per_file")),
        f"  messages that say what was done: {repository['telling_messages_percent']} %",
        *(f"  unreadable: {sha[:12]} {why}" for sha, why in list(repository["unreadable"].items())[:UNREADABLE_SHOWN]),
    ]
    if len(repository["unreadable"]) > UNREADABLE_SHOWN:
        table.append(f"  and {len(repository['unreadable']) - UNREADABLE_SHOWN} more unreadable commits")
    return "\n".join(table + [f"  note: {sentence}" for sentence in repository["advice"]])


def _quantile_line(repository: dict[str, Any], name: str) -> str:
    values = " · ".join(f"{quantile} {value}" for quantile, value in repository[name].items())
    return f"  {name.replace('_', ' ')}: {values}"


def corpus_table(corpus: dict[str, Any]) -> str:
    """The funnel, what was redacted, the duplicates, the splits and what leaks between them."""
    return "\n".join(_corpus_lines(corpus))


def _corpus_lines(corpus: dict[str, Any]) -> Iterator[str]:
    yield f"changes: {corpus['changes']}"
    yield from _funnel_lines(corpus["funnel"], "changes with something to learn from")
    yield f"hunks of changes that pass: {sum(entry.get('dropped', entry.get('kept')) for entry in corpus['hunk_funnel'])}"
    yield from _funnel_lines(corpus["hunk_funnel"], "hunks to learn from or to ask for")
    redactions = list(corpus["redactions"].items())
    shown = [f"{count} {kind}" for kind, count in redactions[:KINDS_SHOWN]]
    more = (
        [f"{sum(count for _, count in redactions[KINDS_SHOWN:])} of other kinds"] if redactions[KINDS_SHOWN:] else []
    )
    yield f"redacted: {', '.join(shown + more) or 'nothing'}"
    yield "splits"
    for name, split in corpus["splits"].items():
        span = f"{split['from'][:10]} to {split['to'][:10]}"
        yield f"{split['samples']:8d}  {name:18s} samples of {split['commits']} commits, {span}"
    yield from _weight_lines(corpus["weights"])
    yield f"leakage from train into test: a random split would leak, ours did before {corpus['duplicates']['leak']} leaks were taken out"
    for name, leak in corpus["leakage"].items():
        near, verbatim = leak["near_duplicate_bytes_percent"], leak["verbatim_lines_percent"]
        yield f"{'':8s}  {name:18s} {near:.1f} % of bytes near-duplicate, {verbatim:.1f} % of lines verbatim"


def _weight_lines(weights: dict[str, Any]) -> Iterator[str]:
    if weights["survival"]:
        curve = ", ".join(f"{100 * share:.0f} % after {age:.0f} days" for age, share in weights["survival"])
        yield f"lines still there where training ends: {curve}"
    half_life = weights["half_life_days"]
    counted = f"count half after {half_life:.0f} days" if half_life else "count the same at any age"
    yield f"changes {counted}; their weights leave {weights['effective_samples']} of {weights['of']} hunks effective"


def length_table(report: dict[str, Any], max_length: int, batch: int) -> str:
    """Tokens by view, and what of a batch would be padding."""
    lines = [f"tokens ({max_length} at most)   samples     tokens    p50    p90    p99  trimmed  too long"]
    for view, found in report["views"].items():
        quantiles = "".join(f"{found[name]:7d}" for name in ("p50", "p90", "p99"))
        shares = f"{found['trimmed_percent']:7.1f} %{found['too_long_percent']:8.1f} %"
        lines.append(f"{'':10s}{view:18s}{found['samples']:7d}{found['tokens']:11d}{quantiles}{shares}")
    padding = ", ".join(f"{share:.0f} % {name}" for name, share in report["padding_percent"].items())
    return "\n".join([*lines, f"padding in batches of {batch}: {padding}"])


def probe_table(scores: dict[str, dict[str, float]]) -> str:
    """Bits per byte of the base model by view and family, the least first."""
    lines = ["prompts that suit the base model (bits per byte of validation's changes, fewer are better)"]
    for view, found in scores.items():
        lines.append(f"{'':10s}{view:18s}" + ", ".join(f"{name} {bits:.3f}" for name, bits in found.items()))
    return "\n".join(lines)


def plan_table(plan: dict[str, Any], by_length: dict[int, int | None]) -> str:
    """What a run would need, and what else would fit."""
    device, memory = plan["device"], plan["memory"]
    lines = [f"{device['name']}: {gib(device['budget'])} for tensors of {gib(device['total'])}"]
    lines += [f"{gib(size):>14s}  {part}" for part, size in memory.items()]
    lines.append(
        f"micro-batch {plan['micro_batch']}, accumulation {plan['gradient_accumulation']}, length {plan['max_length']}"
    )
    lines += [f"  {reason}" for reason in plan["reasons"]]
    fitting = ", ".join(f"{length}: {batch or 'none'}" for length, batch in by_length.items())
    return "\n".join([*lines, f"largest micro-batch by length, up to 32: {fitting}"])


def export_lines(folder: Path, found: dict[str, Any], of: str) -> str:
    """What was written, and how far it is from what it was made of."""
    kind = found.get("dtype", found.get("file"))
    lines = [f"{folder}: {kind}, {found['bytes'] / 1e6:.1f} MB"]
    if "unchecked" in found:
        return "\n".join([*lines, f"  not checked: {found['unchecked']}"])
    if "share_lost_to_rounding" in found:
        lines.append(f"  rounding costs {100 * found['share_lost_to_rounding']:.1f} % of what the adapter changes")
    lines.append(
        f"  logits differ from {of} by {found['max_logit_difference']:.3g} at most, {found['mean_logit_difference']:.3g} on "
        f"average; the likeliest next token is the same at {100 * found['same_next_token']:.0f} % of places"
    )
    same = "the same" if found["same_greedy_text"] else "another"
    return "\n".join([*lines, f"  {same} greedy text: {found['text']!r}"])


def adapter_lines(folder: Path, found: dict[str, Any]) -> str:
    """What was written of an adapter alone, or why nothing was."""
    if "refused" in found:
        return f"{folder}: no adapter, the merged model holds it: {found['refused']}"
    lines = f"{folder}: {found['file']}, {found['bytes'] / 1e6:.1f} MB, {found['matrices']} matrices adapted"
    return f"{lines}\n  not checked: {found['unchecked']}" if "unchecked" in found else lines


def _funnel_lines(funnel: list[dict[str, Any]], kept: str) -> Iterator[str]:
    for entry in funnel:
        rule, count = entry["rule"], entry.get("dropped", entry.get("kept"))
        yield f"{count:8d}  {rule:18s} {RULE[rule].why if rule in RULE else kept}"

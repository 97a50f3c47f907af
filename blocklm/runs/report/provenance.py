"""Describes what a run was made from: repository, funnels, plan, hardware, time, environment and recipe."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from blocklm.formatting import count, day, duration, figure, plural, size
from blocklm.mining.filters import WHY
from blocklm.runs.report.components import Row, Table, name_and_unit

LANGUAGES_SHOWN = 10
# Keys of a recipe that hold paths of this machine or people: the report may be sent to others.
PRIVATE = {"repo", "corpus_dir", "output_dir", "author_weights"}
PATHS = ("model_name_or_path", "continue_from")
GROUPS = {"usage", "series"}  # levels of the hardware's summary whose names are left out
STATISTICS = ("min", "mean", "p95", "max")


def repository(report: Mapping[str, Any]) -> str:
    """Describe the mined repository in two sentences."""
    span = f"{day(report['first_commit_time'])} to {day(report['last_commit_time'])}"
    return (
        f"{plural(report['commits'], 'commit')} ({plural(report['merges'], 'merge')}) by "
        f"{plural(report['authors'], 'author')}, {span}, at {report['head'][:12]}. "
        f"{report['telling_messages_percent']} % of the messages describe their change."
    )


def languages(lines: Mapping[str, int]) -> Table:
    """Make a table of the changed lines by language, with the rest in one row."""
    total = sum(lines.values()) or 1
    ranked = sorted(lines.items(), key=lambda entry: -entry[1])
    shown, rest = ranked[:LANGUAGES_SHOWN], ranked[LANGUAGES_SHOWN:]
    if rest:
        shown.append((f"{len(rest)} others", sum(number for _, number in rest)))
    rows = [Row((name, count(number), f"{100 * number / total:.1f} %"), number / total) for name, number in shown]
    return Table("Changed lines by language", ("Language", "Lines", "Share"), tuple(rows), (1, 2))


def splits(corpus: Mapping[str, Any]) -> Table:
    """Make a table of the commits and samples of each split, and of the samples that were used."""
    rows = []
    for name, split in corpus["splits"].items():
        used = count(split["used"]) if "used" in split else "\N{EN DASH}"
        tokens = count(split["tokens"]) if "tokens" in split else "\N{EN DASH}"
        span = f"{day(split['from'])} to {day(split['to'])}"
        rows.append(Row((name, span, count(split["commits"]), count(split["samples"]), used, tokens)))
    head = ("Split", "Commits from", "Commits", "Samples", "Used", "Tokens")
    note = f"Split by time: training uses the oldest commits, the exam the newest. {_leakage(corpus)}"
    return Table("Splits", head, tuple(rows), (2, 3, 4, 5), note.strip())


def _leakage(corpus: Mapping[str, Any]) -> str:
    leakage = corpus.get("leakage")
    if not leakage:
        return ""
    ours, random = (leakage[name]["near_duplicate_bytes_percent"] for name in ("split", "random_split"))
    return (
        f"{ours:.1f} % of the exam's bytes are near-duplicates of training data; after a random split it would be "
        f"{random:.1f} %."
    )


def funnel(entries: Sequence[Mapping[str, Any]], what: str, kept: str) -> Table:
    """Make a table of what was kept and what each rule dropped, the most first.

    Args:
        entries: number kept, and number dropped by each rule.
        what: name of the things counted, for the caption.
        kept: meaning of those that were kept.
    """
    counts = [(entry["rule"], entry.get("dropped", entry.get("kept"))) for entry in entries]
    total = sum(number for _, number in counts) or 1
    ranked = sorted(counts, key=lambda entry: (entry[0] != "kept", -entry[1]))
    rows = [
        Row((rule, count(number), kept if rule == "kept" else WHY.get(rule, "")), number / total)
        for rule, number in ranked
        if number
    ]
    return Table(f"{what}: {count(total)}", ("Rule", "Count", "Meaning"), tuple(rows), (1,))


def repositories(corpus: Mapping[str, Any]) -> Table | None:
    """Make a table of what each repository of a joint corpus teaches; None for the corpus of one history."""
    parts = corpus.get("repositories")
    if not parts:
        return None
    read = [part["samples"] * part["weight"] for part in parts]
    total = sum(read) or 1
    rows = []
    for part, share in zip(parts, read, strict=True):
        counts = f"{part['weight']:g}", f"{100 * share / total:.1f} %", count(sum(part["repeated"].values()))
        rows.append(Row((part["name"], count(part["samples"]), *counts), share / total))
    head = ("Repository", "Samples", "Weight", "Share", "Repeated")
    note = "Repeated: texts that another repository has, or asks about in its exam, and that this one does not teach."
    return Table("Training samples by repository", head, tuple(rows), (1, 2, 3, 4), note)


def views(corpus: Mapping[str, Any]) -> Table | None:
    """Make a table of the share of each view among the training samples; None if nothing was trained."""
    shares = corpus["splits"].get("train", {}).get("shares")
    if not shares:
        return None
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    rows = [Row((name, f"{100 * share:.1f} %"), share) for name, share in ranked if share]
    return Table("Training samples by view", ("View", "Share"), tuple(rows), (1,))


def exposures(corpus: Mapping[str, Any]) -> str | None:
    """Describe how often the training meets the definitions of the repository; None if that is not known."""
    found = corpus.get("exposures")
    if not found:
        return None
    half, few, many = (plural(found[rank], "time") for rank in ("p50", "p10", "p90"))
    target = found["target"]
    reached = (
        f" The target of {plural(target, 'time')} is reached for {100 * found['reached']:.1f} %." if target else ""
    )
    return (
        f"Training meets half of the {plural(found['definitions'], 'definition')} of the repository {half} or more, a "
        f"tenth {few} at most, a tenth {many} at least, and {100 * found['never_met']:.1f} % never. It meets a "
        f"definition once in each sample that has its name.{reached}"
    )


def redactions(corpus: Mapping[str, Any]) -> str:
    """Describe how many secrets of each kind were replaced, and how many duplicates were left out."""
    ranked = sorted(corpus["redactions"].items(), key=lambda entry: -entry[1])
    kinds = ", ".join(f"{kind} {count(number)}" for kind, number in ranked) or "nothing was found"
    duplicates = count(sum(corpus["duplicates"].values()))
    return f"Replaced before anything was written: {kinds}. Duplicates left out: {duplicates}."


def memory(plan: Mapping[str, Any]) -> Table | None:
    """Make a table of the planned memory of a training step by part; None without a plan."""
    planned = plan.get("memory")
    if not planned:
        return None
    total = planned["total"] or 1
    parts = sorted(((part, held) for part, held in planned.items() if part != "total"), key=lambda entry: -entry[1])
    rows = [Row((part, size(held), f"{100 * held / total:.0f} %"), held / total) for part, held in parts]
    rows.append(Row(("total", size(total), "100 %")))
    device = plan.get("device") or {}
    note = f"{device['name']} has {size(device['budget'])} available." if device else ""
    return Table("Memory of a training step", ("Part", "Size", "Share"), tuple(rows), (1, 2), note)


def reasons(plan: Mapping[str, Any]) -> list[str]:
    """List the reasons for the plan's batch, length and packing."""
    packing = (plan.get("packing") or {}).get("reason")
    return [*plan.get("reasons", []), *([f"packing: {packing}"] if packing else [])]


def training(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the key figures of the training as (name, value)."""
    norm, rate = summary.get("grad_norm") or {}, summary.get("learning_rate") or {}
    cells = {
        "Steps": summary.get("steps"),
        "Epochs": summary.get("epochs"),
        "Tokens read": summary.get("tokens_seen"),
        "Tokens a second": summary.get("tokens_per_second"),
        "Mean training loss": summary.get("train_loss"),
        "Best validation loss": summary.get("best_eval_loss"),
        "Best at step": summary.get("best_step"),
        "Perplexity there": summary.get("perplexity"),
        "Largest gradient norm": norm.get("max"),
        "Peak learning rate": rate.get("peak"),
        "Micro-batch": summary.get("micro_batch"),
        "Accumulation": summary.get("gradient_accumulation"),
        "Processes": summary.get("processes"),
        "Optimizer": summary.get("optim"),
        "Seed": summary.get("seed"),
        "Resumed from step": summary.get("resumed_from"),
        "Ended by": (summary.get("stopped_by") or "").replace("_", " ") or None,
    }
    return [(name, figure(value)) for name, value in cells.items() if value is not None]


def hardware(summary: Mapping[str, Any]) -> Table | None:
    """Make a table of all series and single numbers of the hardware's summary; None if it has none."""
    rows = tuple(Row((*name_and_unit(name), *cells)) for name, cells in _hardware_rows("", summary))
    head = ("Series", "Unit", "Min", "Mean", "95 %", "Max")
    return Table("Used while training", head, rows, (2, 3, 4, 5)) if rows else None


def _hardware_rows(name: str, value: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield name and cells of each series and number in a nested summary."""
    if isinstance(value, Mapping) and "mean" in value:
        yield name, tuple(figure(value.get(statistic)) for statistic in STATISTICS)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _hardware_rows(name if key in GROUPS else f"{name} {key}".strip(), part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _hardware_rows(f"{name} {index}", part)
    elif value is not None:
        yield name, ("", figure(value), "", "")


def phases(entries: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of how long each phase took and how it ended."""
    longest = max((phase["seconds"] or 0 for phase in entries), default=0) or 1
    rows = [
        Row(
            (
                phase["name"],
                "complete" if phase["status"] == "complete" else str(phase.get("reason") or phase["status"]),
                duration(phase["seconds"]) if phase["seconds"] is not None else "\N{EN DASH}",
            ),
            (phase["seconds"] or 0) / longest,
        )
        for phase in entries
    ]
    return Table("Phases", ("Phase", "Ended", "Time"), tuple(rows), (2,))


def environment(manifest: Mapping[str, Any]) -> Table:
    """Make a table of the versions, the system and the precision of a run."""
    system = manifest["environment"]
    cells = {"BlockLM": manifest["blocklm_version"], "Python": system["python"], **system["packages"]}
    cells |= {"System": system["os"], "CPUs": system["cpus"]}
    precision = (manifest["plan"] or {}).get("precision") or {}
    cells |= {f"precision: {name}": value for name, value in precision.items()}
    rows = tuple(Row((name, figure(value))) for name, value in cells.items())
    return Table("Environment", ("Name", "Version or value"), rows)


def recipe(resolved: Mapping[str, Any]) -> Table:
    """Make a table of the keys that are set in the resolved recipe, without local paths, people and tokens."""
    rows = []
    for key, value in resolved.items():
        if value is None or key in PRIVATE or key.endswith("token"):
            continue
        if key in PATHS and PurePath(str(value)).is_absolute():
            value = PurePath(str(value)).name
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append(Row((key, shown)))
    note = "Local paths, author weights and tokens are left out; recipe.yaml in the run directory has all keys."
    return Table("Recipe, resolved", ("Key", "Value"), tuple(rows), note=note)


def artifacts(files: Sequence[Mapping[str, Any]]) -> Table | None:
    """Make a table of the run's files, with size and the first digits of their SHA-256; None without files."""
    rows = tuple(Row((file["path"], size(file["bytes"]), file["sha256"][:16])) for file in files)
    return Table("Files", ("Path", "Size", "SHA-256, first 16"), rows, (1,)) if rows else None

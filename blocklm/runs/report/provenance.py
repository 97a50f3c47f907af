"""What a run was made of: the repository and its funnel, the plan, the hardware, the time, the environment, the recipe."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from blocklm.formatting import count, day, duration, figure, plural, size
from blocklm.mining.filters import WHY
from blocklm.runs.report.components import Row, Table, named

LANGUAGES_SHOWN = 10
# Keys of a recipe that hold places on this machine or people; the report is made to be mailed.
PRIVATE = {"repo", "corpus_dir", "output_dir", "author_weights"}
PATHS = ("model_name_or_path", "continue_from")
GROUPS = {"usage", "series"}  # in the hardware's summary; they say nothing to a reader
STATISTICS = ("min", "mean", "p95", "max")


def repository(found: Mapping[str, Any]) -> str:
    """What was mined, in a sentence."""
    span = f"{day(found['first_commit_time'])} to {day(found['last_commit_time'])}"
    said = (
        f"{plural(found['commits'], 'commit')} ({plural(found['merges'], 'merge')}) by {plural(found['authors'], 'author')}, "
        f"{span}, at {found['head'][:12]}."
    )
    return f"{said} {found['telling_messages_percent']} % of the messages say what was done."


def languages(found: Mapping[str, int]) -> Table:
    """Changed lines by language, the rest in one row."""
    total = sum(found.values()) or 1
    ranked = sorted(found.items(), key=lambda entry: -entry[1])
    shown, rest = ranked[:LANGUAGES_SHOWN], ranked[LANGUAGES_SHOWN:]
    if rest:
        shown.append((f"{len(rest)} others", sum(lines for _, lines in rest)))
    rows = [Row((name, count(lines), f"{100 * lines / total:.1f} %"), lines / total) for name, lines in shown]
    return Table("Changed lines by language", ("Language", "Lines", "Share"), tuple(rows), (1, 2))


def splits(corpus: Mapping[str, Any]) -> Table:
    """The commits and samples of each split, and what of them was used."""
    rows = []
    for name, split in corpus["splits"].items():
        used = count(split["used"]) if "used" in split else "\N{EN DASH}"
        tokens = count(split["tokens"]) if "tokens" in split else "\N{EN DASH}"
        span = f"{day(split['from'])} to {day(split['to'])}"
        rows.append(Row((name, span, count(split["commits"]), count(split["samples"]), used, tokens)))
    head = ("Split", "Commits from", "Commits", "Samples", "Used", "Tokens")
    note = f"By time: the past trains, the newest commits are the exam. {_leakage(corpus)}"
    return Table("Splits", head, tuple(rows), (2, 3, 4, 5), note.strip())


def _leakage(corpus: Mapping[str, Any]) -> str:
    leakage = corpus.get("leakage")
    if not leakage:
        return ""
    ours, random = (leakage[name]["near_duplicate_bytes_percent"] for name in ("split", "random_split"))
    return f"{ours:.1f} % of the exam's bytes nearly repeat what was trained on; after a random split it would be {random:.1f} %."


def funnel(entries: Sequence[Mapping[str, Any]], what: str, kept: str) -> Table:
    """What was kept and what each rule dropped, the most first."""
    counts = [(entry["rule"], entry.get("dropped", entry.get("kept"))) for entry in entries]
    total = sum(number for _, number in counts) or 1
    ranked = sorted(counts, key=lambda entry: (entry[0] != "kept", -entry[1]))
    rows = [
        Row((rule, count(number), kept if rule == "kept" else WHY.get(rule, "")), number / total)
        for rule, number in ranked
        if number
    ]
    return Table(f"{what}: {count(total)}", ("Rule", "Count", "Meaning"), tuple(rows), (1,))


def views(corpus: Mapping[str, Any]) -> Table | None:
    """The share of each kind of lesson among what was trained on."""
    shares = corpus["splits"].get("train", {}).get("shares")
    if not shares:
        return None
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    rows = [Row((name, f"{100 * share:.1f} %"), share) for name, share in ranked if share]
    return Table("Kinds of lesson", ("View", "Share"), tuple(rows), (1,))


def redactions(corpus: Mapping[str, Any]) -> str:
    """What was replaced before anything was written."""
    found = sorted(corpus["redactions"].items(), key=lambda entry: -entry[1])
    kinds = ", ".join(f"{kind} {count(number)}" for kind, number in found) or "nothing was found"
    return f"Replaced before anything was written: {kinds}. Duplicates left out: {count(sum(corpus['duplicates'].values()))}."


def memory(plan: Mapping[str, Any]) -> Table | None:
    """What a training step was planned to need, by part."""
    planned = plan.get("memory")
    if not planned:
        return None
    total = planned["total"] or 1
    parts = sorted(((part, held) for part, held in planned.items() if part != "total"), key=lambda entry: -entry[1])
    rows = [Row((part, size(held), f"{100 * held / total:.0f} %"), held / total) for part, held in parts]
    rows.append(Row(("total", size(total), "100 %")))
    device = plan.get("device") or {}
    note = f"{device['name']} has {size(device['budget'])} for it." if device else ""
    return Table("Memory of a training step", ("Part", "Size", "Share"), tuple(rows), (1, 2), note)


def reasons(plan: Mapping[str, Any]) -> list[str]:
    """Why batch, length and packing are what they are."""
    packing = (plan.get("packing") or {}).get("reason")
    return [*plan.get("reasons", []), *([f"packing: {packing}"] if packing else [])]


def training(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the training came to, as (name, value)."""
    norm, rate = found.get("grad_norm") or {}, found.get("learning_rate") or {}
    cells = {
        "Steps": found.get("steps"),
        "Epochs": found.get("epochs"),
        "Tokens read": found.get("tokens_seen"),
        "Tokens a second": found.get("tokens_per_second"),
        "Mean training loss": found.get("train_loss"),
        "Best validation loss": found.get("best_eval_loss"),
        "Best at step": found.get("best_step"),
        "Perplexity there": found.get("perplexity"),
        "Largest gradient norm": norm.get("max"),
        "Peak learning rate": rate.get("peak"),
        "Micro-batch": found.get("micro_batch"),
        "Accumulation": found.get("gradient_accumulation"),
        "Processes": found.get("processes"),
        "Optimizer": found.get("optim"),
        "Seed": found.get("seed"),
        "Resumed from step": found.get("resumed_from"),
        "Ended by": (found.get("stopped_by") or "").replace("_", " ") or None,
    }
    return [(name, figure(value)) for name, value in cells.items() if value is not None]


def hardware(found: Mapping[str, Any]) -> Table | None:
    """Every series of the hardware's summary, and every single number."""
    rows = tuple(Row((*named(name), *cells)) for name, cells in _series("", found))
    head = ("Series", "Unit", "Min", "Mean", "95 %", "Max")
    return Table("Used while training", head, rows, (2, 3, 4, 5)) if rows else None


def _series(name: str, found: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    if isinstance(found, Mapping) and "mean" in found:
        yield name, tuple(figure(found.get(statistic)) for statistic in STATISTICS)
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _series(name if key in GROUPS else f"{name} {key}".strip(), value)
    elif isinstance(found, list):
        for at, value in enumerate(found):
            yield from _series(f"{name} {at}", value)
    elif found is not None:
        yield name, ("", figure(found), "", "")


def phases(found: Sequence[Mapping[str, Any]]) -> Table:
    """How long each phase took and how it ended."""
    longest = max((phase["seconds"] or 0 for phase in found), default=0) or 1
    rows = [
        Row(
            (
                phase["name"],
                "complete" if phase["status"] == "complete" else str(phase.get("reason") or phase["status"]),
                duration(phase["seconds"]) if phase["seconds"] is not None else "\N{EN DASH}",
            ),
            (phase["seconds"] or 0) / longest,
        )
        for phase in found
    ]
    return Table("Phases", ("Phase", "Ended", "Time"), tuple(rows), (2,))


def environment(manifest: Mapping[str, Any]) -> Table:
    """What it ran on and with."""
    found = manifest["environment"]
    cells = {"BlockLM": manifest["blocklm_version"], "Python": found["python"], **found["packages"]}
    cells |= {"System": found["os"], "CPUs": found["cpus"]}
    precision = (manifest["plan"] or {}).get("precision") or {}
    cells |= {f"precision: {name}": value for name, value in precision.items()}
    rows = tuple(Row((name, figure(value))) for name, value in cells.items())
    return Table("Environment", ("Name", "Version or value"), rows)


def recipe(found: Mapping[str, Any]) -> Table:
    """The keys of the resolved recipe that are set, without places on this machine, people and tokens."""
    rows = []
    for key, value in found.items():
        if value is None or key in PRIVATE or key.endswith("token"):
            continue
        if key in PATHS and PurePath(str(value)).is_absolute():
            value = PurePath(str(value)).name
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append(Row((key, shown)))
    note = "Local paths, author weights and tokens are left out; recipe.yaml in the run directory has the rest."
    return Table("Recipe, resolved", ("Key", "Value"), tuple(rows), note=note)


def artifacts(found: Sequence[Mapping[str, Any]]) -> Table | None:
    """The files of the run, with size and the first digits of their SHA-256."""
    rows = tuple(Row((file["path"], size(file["bytes"]), file["sha256"][:16])) for file in found)
    return Table("Files", ("Path", "Size", "SHA-256, first 16"), rows, (1,)) if rows else None

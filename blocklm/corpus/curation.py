"""What may teach and what may ask: a verdict on every hunk of a history, judged by the history as a whole.

`hygiene` judges a commit by itself; here are the rules that need its neighbours: the split by landing time with its gaps,
cherry-picks, duplicates, and what would leak from the exam into training. It stands in `corpus_dir/NAME/curated-KEY`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value

from blocklm import cache
from blocklm.config.mining import MiningArguments
from blocklm.corpus.candidates import CandidateHunk, LandingOrder, candidate_hunks, landing_order
from blocklm.corpus.decontamination import Lines, leakage_report
from blocklm.corpus.minhash import ShingledTexts
from blocklm.corpus.splits import NAMES, Cuts, cut_by_time
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.mining.filters import funnel

# Shorter texts are alike by accident; longer ones are compared by their shingles.
MIN_NEAR_CHARS = 80
MIN_SEEN_CHARS = 3
REVERTED_WEIGHT = 0.25
VERDICTS = Features(
    {
        "row": Value("int32"),
        "hunk": Value("int16"),
        "reason": Value("string"),
        "split": Value("string"),
        "weight": Value("float32"),
        "seen_lines": Value("bool"),
    }
)


@dataclass(frozen=True)
class Curated:
    """One verdict per hunk of the kept changes, in their order; `report` is part of the manifest's `corpus`."""

    verdicts: Dataset
    report: dict[str, Any]


def curate(changes: Changes, mining: MiningArguments) -> Curated:
    """Judge every hunk, or read the cached verdicts.

    Raises:
        UserError: nothing is left after the filters, or too few commits to split.
    """
    disabled = frozenset(mining.disable_rules or ())
    settings = {"changes": changes.report["key"], "test_commits": mining.test_commits, "disabled": sorted(disabled)}
    key = cache.data_key("mining", "corpus", "cache", **settings)
    folder = Path(mining.corpus_dir) / changes.report["repository"]["name"][:100] / f"curated-{key}"

    def build(ready: Path) -> dict[str, Any]:
        judged = candidate_hunks(changes.dataset)
        report = {"key": key} | _judge(judged, changes, mining.test_commits, disabled)
        cache.write_dataset(ready / "data", _batches(judged), VERDICTS, fingerprint=key)
        return report

    verdicts, report, _ = cache.read_or_build(folder, build)
    return Curated(verdicts, report)


def _judge(
    units: list[CandidateHunk], changes: Changes, test_commits: int | None, disabled: frozenset[str]
) -> dict[str, Any]:
    """Give each unit its split, reason, weight and tag; returns the report."""
    history = landing_order(changes.dataset)
    asked = {unit.seq for unit in units if unit.weight == 1}
    if not asked:
        raise UserError(
            f"no code is left to learn from after the filters: {describe_funnel(changes.report['funnel'])}, "
            f"{len(units)} hunks of documentation and data",
            "`--explain PATH` of scripts/mine.py says why, and which key changes it; a repository of code is needed",
        )
    landings = [(history.positions[seq], history.times[history.positions[seq]]) for seq in asked]
    cuts = cut_by_time(landings, test_commits)
    _split(units, history, cuts)
    if "cherry_pick" not in disabled:
        _drop_cherry_picks(units)
    shingled, of_shingled = _compare(units, disabled)
    lines = Lines([unit.text for unit in units])
    _tag_seen_lines(units, lines)
    kept = {unit.row for unit in units if unit.reason is None}
    reasons = changes.dataset.data.table["drop_reason"].to_pylist()
    for unit in units:
        if unit.row not in kept:
            reasons[unit.row] = unit.reason
    hunk_reasons = changes.dataset.data.table["hunk_reasons"].combine_chunks().flatten().to_pylist()
    dropped_alone = [reason for reason in hunk_reasons if reason is not None]
    return {
        "funnel": funnel(reasons),
        "hunk_funnel": funnel([*dropped_alone, *(unit.reason for unit in units)]),
        "redactions": _counts(changes.dataset.data.table["redactions"].combine_chunks().flatten()),
        "duplicates": {name: sum(u.reason == name for u in units) for name in ("cherry_pick", "duplicate", "near_duplicate", "leak")},
        "gap_commits": len({unit.commit for unit in units if unit.reason == "purge_gap"}),
        "leakage": leakage_report(units, lines, shingled, of_shingled, history),
        "cut": history.last_before(cuts.train_end),
    }  # fmt: skip


def _split(units: list[CandidateHunk], history: LandingOrder, cuts: Cuts) -> None:
    """Assign the splits; text that is not code teaches, but is not asked for."""
    for unit in units:
        unit.split = cuts.split_of(history.positions[unit.seq])
        if unit.split is None:
            unit.reason = "purge_gap"
        elif unit.split != "train" and unit.weight < 1:
            unit.reason = "not_asked"
        elif unit.split == "train" and history.reverted.get(unit.commit, cuts.train_end) < cuts.train_end:
            unit.weight *= REVERTED_WEIGHT


def _drop_cherry_picks(units: list[CandidateHunk]) -> None:
    """Drop a commit whose hunks, context and paths included, are those of an earlier one (as `git patch-id` tells)."""
    hunks_of_commit: dict[str, list[CandidateHunk]] = {}
    for unit in units:
        hunks_of_commit.setdefault(unit.commit, []).append(unit)
    known: set[frozenset[bytes]] = set()
    for some in hunks_of_commit.values():
        patch = frozenset(unit.patch for unit in some)
        if patch in known:
            for unit in some:
                unit.reason = "cherry_pick"
        known.add(patch)


def _compare(units: list[CandidateHunk], disabled: frozenset[str]) -> tuple[ShingledTexts, list[CandidateHunk]]:
    """Drop what a later hunk repeats, exactly or nearly; what validation or test repeats is a leak, whatever is disabled.

    Returns:
        The shingles of the texts long enough to compare, and the units they belong to.
    """
    newest: dict[bytes, CandidateHunk] = {}
    for unit in reversed(units):
        if unit.reason is None and newest.setdefault(unit.key, unit) is not unit:
            _drop(unit, newest[unit.key], "duplicate", disabled)
    candidates = (None, "duplicate", "leak")
    compared = [unit for unit in units if unit.reason in candidates and len(unit.text) >= MIN_NEAR_CHARS]
    shingled = ShingledTexts([unit.text for unit in compared])
    for older, newer in shingled.newer_duplicates().items():
        if compared[older].reason is None:
            _drop(compared[older], compared[newer], "near_duplicate", disabled)
    return shingled, compared


def _drop(older: CandidateHunk, newer: CandidateHunk, reason: str, disabled: frozenset[str]) -> None:
    if older.split != newer.split:
        older.reason = "leak"
    elif reason not in disabled:
        older.reason = reason


def _tag_seen_lines(units: list[CandidateHunk], lines: Lines) -> None:
    """Tag what is asked for and stands in training line by line, so that scores can be told with and without it."""
    taught = np.array([unit.split == "train" and unit.reason is None for unit in units])
    asked = np.array([unit.split in NAMES[1:] for unit in units])
    of_unit, seen = lines.standing_in(taught, asked, MIN_SEEN_CHARS)
    new = set(of_unit[~seen].tolist())
    for number in np.flatnonzero(asked).tolist():
        units[number].seen_lines = number not in new


def _counts(kinds: pa.Array) -> dict[str, int]:
    return dict(Counter(kinds.to_pylist()).most_common())


def _batches(units: list[CandidateHunk]) -> Iterator[pa.RecordBatch]:
    schema = VERDICTS.arrow_schema
    columns = [pa.array([getattr(unit, field.name) for unit in units], field.type) for field in schema]
    yield pa.record_batch(columns, schema=schema)


def describe_funnel(funnel: list[dict[str, Any]]) -> str:
    """What was dropped, in words for an error."""
    return (
        ", ".join(f"{entry['dropped']} {entry['rule']}" for entry in funnel if "dropped" in entry)
        or "no change at all"
    )

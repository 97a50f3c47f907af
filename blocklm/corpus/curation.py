"""Decides which hunks train and which are held out: one verdict per hunk.

`mining.filters` judges a commit by itself. The rules here compare commits: the split by landing time with its gaps,
cherry-picks, duplicates, and leaks from the exam into training. Verdicts are cached in `corpus_dir/NAME/curated-KEY`.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
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
from blocklm.corpus.joint.reports import joint_report, of_each
from blocklm.corpus.minhash import ShingledTexts
from blocklm.corpus.splits import NAMES, Cuts, cut_by_time
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from blocklm.mining.filters import funnel
from blocklm.mining.joint import first_rows, shift

# Characters of the shortest text that is compared by its shingles: shorter ones are alike by accident.
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
    """The verdicts on the hunks of the kept changes, one row each, in their order.

    Attributes:
        verdicts: rows with the columns of `VERDICTS`.
        report: counts of kept, dropped and leaking hunks, part of the manifest's `corpus`.
    """

    verdicts: Dataset
    report: dict[str, Any]


def curate(changes: Changes, mining: MiningArguments) -> Curated:
    """Judge every hunk, or read the cached verdicts; those of repositories that are split each by its own time join.

    Raises:
        UserError: nothing is left after the filters, or too few commits to split.
    """
    if changes.parts:
        return _join(changes, of_each(changes.parts, lambda part: curate(part, mining)))
    disabled = frozenset(mining.disable_rules or ())
    settings = {"changes": changes.report["key"], "test_commits": mining.test_commits, "disabled": sorted(disabled)}
    key = cache.data_key("mining", "corpus", "cache", **settings)
    folder = Path(mining.corpus_dir) / changes.report["repository"]["name"][:100] / f"curated-{key}"

    def build(ready: Path) -> dict[str, Any]:
        hunks = candidate_hunks(changes.dataset)
        report = {"key": key} | _judge_hunks(hunks, changes, mining.test_commits, disabled)
        cache.write_dataset(ready / "data", _record_batches(hunks), VERDICTS, fingerprint=key)
        return report

    stored = cache.read_or_build(folder, build)
    return Curated(stored.dataset, stored.report)


def _join(changes: Changes, parts: Sequence[Curated]) -> Curated:
    """Put the verdicts of repositories one behind the other; what one repeats of another is found by their samples."""
    starts = first_rows(changes.parts)
    tables = [shift(part.verdicts.data.table, "row", start) for part, start in zip(parts, starts, strict=True)]
    reports = [part.report for part in parts]
    key = cache.data_key("mining", "corpus", "cache", joint=[report["key"] for report in reports])
    return Curated(Dataset(pa.concat_tables(tables)), {"key": key} | joint_report(reports))


def _judge_hunks(
    hunks: list[CandidateHunk], changes: Changes, test_commits: int | None, disabled: frozenset[str]
) -> dict[str, Any]:
    """Set split, reason, weight and `seen_lines` of each hunk; returns the report."""
    history = landing_order(changes.dataset)
    code_commits = {hunk.seq for hunk in hunks if hunk.weight == 1}
    if not code_commits:
        raise UserError(
            f"no code is left to learn from after the filters: {describe_funnel(changes.report['funnel'])}, "
            f"{len(hunks)} hunks of documentation and data",
            "name a repository of code; `--explain PATH` of scripts/mine.py says which key keeps a file",
        )
    landings = [(history.positions[seq], history.times[history.positions[seq]]) for seq in code_commits]
    cuts = cut_by_time(landings, test_commits)
    _assign_splits(hunks, history, cuts)
    if "cherry_pick" not in disabled:
        _drop_cherry_picks(hunks)
    shingled, of_shingled = _drop_duplicates(hunks, disabled)
    lines = Lines([hunk.text for hunk in hunks])
    _tag_seen_lines(hunks, lines)
    kept = {hunk.row for hunk in hunks if hunk.reason is None}
    reasons = changes.dataset.data.table["drop_reason"].to_pylist()
    for hunk in hunks:
        if hunk.row not in kept:
            reasons[hunk.row] = hunk.reason
    hunk_reasons = changes.dataset.data.table["hunk_reasons"].combine_chunks().flatten().to_pylist()
    dropped_alone = [reason for reason in hunk_reasons if reason is not None]
    return {
        "funnel": funnel(reasons),
        "hunk_funnel": funnel([*dropped_alone, *(hunk.reason for hunk in hunks)]),
        "redactions": _count_kinds(changes.dataset.data.table["redactions"].combine_chunks().flatten()),
        "duplicates": {name: sum(u.reason == name for u in hunks) for name in ("cherry_pick", "duplicate", "near_duplicate", "leak")},
        "gap_commits": len({hunk.commit for hunk in hunks if hunk.reason == "purge_gap"}),
        "leakage": leakage_report(hunks, lines, shingled, of_shingled, history),
        "cut": history.last_before(cuts.train_end),
    }  # fmt: skip


def _assign_splits(hunks: list[CandidateHunk], history: LandingOrder, cuts: Cuts) -> None:
    """Assign the splits; text that is not code trains, but is never held out."""
    for hunk in hunks:
        hunk.split = cuts.split_of(history.positions[hunk.seq])
        if hunk.split is None:
            hunk.reason = "purge_gap"
        elif hunk.split != "train" and hunk.weight < 1:
            hunk.reason = "not_asked"
        elif hunk.split == "train" and history.reverted.get(hunk.commit, cuts.train_end) < cuts.train_end:
            hunk.weight *= REVERTED_WEIGHT


def _drop_cherry_picks(hunks: list[CandidateHunk]) -> None:
    """Drop each commit whose hunks equal those of an earlier one with context and paths, as `git patch-id` does."""
    hunks_of_commit: dict[str, list[CandidateHunk]] = {}
    for hunk in hunks:
        hunks_of_commit.setdefault(hunk.commit, []).append(hunk)
    known: set[frozenset[bytes]] = set()
    for commit_hunks in hunks_of_commit.values():
        patch = frozenset(hunk.patch for hunk in commit_hunks)
        if patch in known:
            for hunk in commit_hunks:
                hunk.reason = "cherry_pick"
        known.add(patch)


def _drop_duplicates(
    hunks: list[CandidateHunk], disabled: frozenset[str]
) -> tuple[ShingledTexts, list[CandidateHunk]]:
    """Drop each hunk that a later one repeats, exactly or nearly.

    A training hunk that validation or test repeats is a leak, which no key keeps.

    Returns:
        The shingles of the texts long enough to compare, and the hunks they belong to.
    """
    newest: dict[bytes, CandidateHunk] = {}
    for hunk in reversed(hunks):
        if hunk.reason is None and newest.setdefault(hunk.key, hunk) is not hunk:
            _drop_older(hunk, newest[hunk.key], "duplicate", disabled)
    candidates = (None, "duplicate", "leak")
    compared = [hunk for hunk in hunks if hunk.reason in candidates and len(hunk.text) >= MIN_NEAR_CHARS]
    shingled = ShingledTexts([hunk.text for hunk in compared])
    for older, newer in shingled.newer_duplicates().items():
        if compared[older].reason is None:
            _drop_older(compared[older], compared[newer], "near_duplicate", disabled)
    return shingled, compared


def _drop_older(older: CandidateHunk, newer: CandidateHunk, reason: str, disabled: frozenset[str]) -> None:
    if older.split != newer.split:
        older.reason = "leak"
    elif reason not in disabled:
        older.reason = reason


def _tag_seen_lines(hunks: list[CandidateHunk], lines: Lines) -> None:
    """Tag each held-out hunk whose every line occurs in training, so that scores can be reported without them."""
    training = np.array([hunk.split == "train" and hunk.reason is None for hunk in hunks])
    held_out = np.array([hunk.split in NAMES[1:] for hunk in hunks])
    hunk_of_line, seen = lines.find_repeated(training, held_out, MIN_SEEN_CHARS)
    with_new_lines = set(hunk_of_line[~seen].tolist())
    for number in np.flatnonzero(held_out).tolist():
        hunks[number].seen_lines = number not in with_new_lines


def _count_kinds(kinds: pa.Array) -> dict[str, int]:
    return dict(Counter(kinds.to_pylist()).most_common())


def _record_batches(hunks: list[CandidateHunk]) -> Iterator[pa.RecordBatch]:
    schema = VERDICTS.arrow_schema
    columns = [pa.array([getattr(hunk, field.name) for hunk in hunks], field.type) for field in schema]
    yield pa.record_batch(columns, schema=schema)


def describe_funnel(funnel: list[dict[str, Any]]) -> str:
    """List how many hunks or changes each rule dropped, for an error message."""
    return (
        ", ".join(f"{entry['dropped']} {entry['rule']}" for entry in funnel if "dropped" in entry)
        or "no change at all"
    )

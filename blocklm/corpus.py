"""The corpus: what the columns are, and how history becomes changes and changes become samples.

Two datasets stand under `corpus_dir/NAME/`, each with a readable `corpus.json` beside it: `changes-KEY`, one row per
file changed by a commit, the same for every model; `samples-KEY`, train, validation and test for one model family.
"""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import accumulate, chain, islice
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value
from tqdm import tqdm

from blocklm import analysis, commits, hygiene, splits, sterile, store, views
from blocklm.analysis import Analysis
from blocklm.commits import Commit, Repository, count_commits, read_commits
from blocklm.errors import UserError
from blocklm.hygiene import Limits

CHANGES = Features(
    {
        "repo": Value("string"),
        "commit": Value("string"),
        "parents": List(Value("string")),
        "seq": Value("int32"),
        "author": Value("string"),
        "author_time": Value("timestamp[s, tz=UTC]"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "message": Value("large_string"),
        "num_files": Value("int32"),
        "path": Value("string"),
        "old_path": Value("string"),
        "change_type": Value("string"),
        "language": Value("string"),
        "before_blob": Value("string"),
        "after_blob": Value("string"),
        "diff": Value("large_string"),
        "added": Value("int32"),
        "deleted": Value("int32"),
        "drop_reason": Value("string"),
    }
)
SAMPLES = Features(
    {
        "id": Value("string"),
        "prompt": Value("large_string"),
        "completion": Value("large_string"),
        "added": List(Value("int32")),
        "view": Value("string"),
        "commit": Value("string"),
        "path": Value("string"),
        "language": Value("string"),
        "seq": Value("int32"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "weight": Value("float32"),
    }
)


@dataclass(frozen=True)
class Changes:
    """The mined changes and what is known of their repository; `cache` is `hit` or `built`."""

    dataset: Dataset
    report: dict[str, Any]
    cache: str


@dataclass(frozen=True)
class Corpus:
    """Training samples by split; `report` holds the manifest's `corpus` entry."""

    splits: DatasetDict
    report: dict[str, Any]
    cache: str


def load_changes(repository: Repository, limits: Limits, corpus_dir: Path) -> Changes:
    """Return the changes of every commit up to the head, mined now or read from the cache."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    versions = {"git": git, "pydriller": version("pydriller"), "enry": version("enry-python")}
    boundary = sorted(repository.boundary)  # a clone that was deepened since has more to say
    settings = {"head": repository.head, "boundary": boundary, "name": repository.name, "limits": asdict(limits)}
    key = store.data_key(sterile, commits, hygiene, analysis, sys.modules[__name__], **settings, **versions)
    folder = corpus_dir / repository.name / f"changes-{key}"
    stored = store.read(folder)
    if stored is not None:
        dataset, report = stored
        report["repository"] |= {"path": str(repository.path), "branches": repository.branches}
        return Changes(dataset, report, cache="hit")
    seen = Analysis()
    history = tqdm(read_commits(repository), "mining", count_commits(repository), unit=" commits", disable=None)
    rows = _change_rows(history, limits, seen)
    stored = store.write(folder, rows, CHANGES, lambda built: (built, _changes_report(repository, key, seen, built)))
    return Changes(*stored, cache="built")


def load_samples(
    changes: Changes, special_tokens: frozenset[str], test_commits: int | None, corpus_dir: Path
) -> Corpus:
    """Render the kept changes for one model family and split them by time, or read the cached result.

    Args:
        changes: what to render.
        special_tokens: the model's special tokens; they tell its family, and text that contains one is left out.
        test_commits: size of the test split in commits, None to adapt to the repository.
        corpus_dir: where corpora are cached.

    Raises:
        UserError: nothing is left after the filters, or too few commits to split.
    """
    family = views.family_of(special_tokens)
    settings = {"changes": changes.report["key"], "tokens": sorted(special_tokens), "test_commits": test_commits}
    key = store.data_key(hygiene, views, splits, sys.modules[__name__], **settings)
    folder = corpus_dir / changes.report["repository"]["name"] / f"samples-{key}"
    stored = store.read(folder)
    if stored is not None:
        return Corpus(*stored, cache="hit")
    left_out: Counter[str] = Counter()
    rows = _sample_rows(changes.dataset, family, special_tokens, left_out)
    first = next(rows, None)
    if first is None:
        raise UserError(
            f"nothing is left to learn from after the filters: {_told(changes.report['funnel'], left_out)}",
            "`python scripts/mine.py RECIPE` says what each rule means; a repository of code is needed",
        )

    def finish(built: Dataset) -> store.Stored:
        split_of = splits.split_by_time(built["seq"], test_commits)
        divided = store.divide(built, [split_of[seq] for seq in built["seq"]], splits.NAMES)
        return divided, _samples_report(key, family, changes.report, left_out, divided)

    stored = store.write(folder, chain([first], rows), SAMPLES, finish)
    return Corpus(*stored, cache="built")


def _change_rows(history: Iterable[Commit], limits: Limits, seen: Analysis) -> Iterator[dict[str, Any]]:
    """Yield one row per changed file, and one without a path for each commit that has none to show."""
    for commit in history:
        seen.count(commit)
        shared = {
            "repo": commit.repo,
            "commit": commit.sha,
            "parents": list(commit.parents),
            "seq": commit.seq,
            "author": commit.author,
            "author_time": commit.author_time,
            "commit_time": commit.commit_time,
            "message": hygiene.clean_message(commit.message),
            "num_files": len(commit.files),
        }
        reason = hygiene.screen_commit(commit)
        if reason is not None:
            nothing = dict.fromkeys(("path", "old_path", "change_type", "language", "before_blob", "after_blob"))
            yield shared | nothing | {"diff": "", "added": 0, "deleted": 0, "drop_reason": reason}
            continue
        for change in commit.files:
            language, reason = hygiene.language_of(change.path), hygiene.screen(change, limits)
            seen.languages[language or "unknown"] += change.added + change.deleted
            yield shared | {
                "path": change.path,
                "old_path": change.old_path,
                "change_type": change.change_type,
                "language": language,
                "before_blob": change.before_blob,
                "after_blob": change.after_blob,
                "diff": "" if reason else change.diff,
                "added": change.added,
                "deleted": change.deleted,
                "drop_reason": reason,
            }


def _sample_rows(
    changes: Dataset, family: views.Family, special_tokens: frozenset[str], left_out: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Render every kept change; those whose text holds a special token would break a prompt and are counted instead."""
    kept = changes.select([at for at, reason in enumerate(changes["drop_reason"]) if reason is None])
    for change in tqdm(kept, "rendering", unit=" changes", disable=None):
        text = "\n".join((change["path"], change["message"], change["diff"]))
        if any(token in text for token in special_tokens):
            left_out["special_token"] += 1
            continue
        shared = {key: change[key] for key in ("commit", "path", "language", "seq", "commit_time")}
        for sample in views.render_edit(
            family, **{key: change[key] for key in ("repo", "commit", "path", "message", "diff")}
        ):
            yield shared | asdict(sample) | {"weight": 1.0}


def _changes_report(repository: Repository, key: str, seen: Analysis, built: Dataset) -> dict[str, Any]:
    return {
        "key": key,
        "repository": seen.report(repository),
        "changes": len(built),
        "funnel": hygiene.funnel(built["drop_reason"]),
    }


def _samples_report(
    key: str, family: views.Family, source: dict[str, Any], left_out: Counter[str], built: DatasetDict
) -> dict[str, Any]:
    # A branch may land after newer commits: the landing time is the latest seen so far, so that splits do not overlap.
    landed = iter(accumulate(chain.from_iterable(split["commit_time"] for split in built.values()), max))
    spans = {}
    for name, split in built.items():
        times = list(islice(landed, len(split)))
        spans[name] = {
            "commits": len(set(split["commit"])),
            "samples": len(split),
            "from": times[0].isoformat(),
            "to": times[-1].isoformat(),
        }
    return {
        "key": key,
        "changes": source["changes"],
        "funnel": source["funnel"],
        "family": family.name,
        "left_out": dict(left_out),
        "splits": spans,
    }


def _told(funnel: list[dict[str, Any]], left_out: Counter[str]) -> str:
    dropped = [f"{entry['dropped']} {entry['rule']}" for entry in funnel if "dropped" in entry]
    return ", ".join(dropped + [f"{count} {reason}" for reason, count in left_out.items()]) or "no change at all"

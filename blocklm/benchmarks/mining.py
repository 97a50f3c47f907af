"""Measures speed and memory of the data half as ratios to named baselines, side by side in one run.

Every case runs in its own process, with imports done before the clock starts. Rounds are interleaved, so that a slow
moment of the machine affects all cases alike.
"""

import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pydriller

from blocklm.benchmarks.processes import Measurement, measure_in_process
from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.git.commits import Caps, Commit, read_commits
from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.repository import Repository, open_repository
from blocklm.git.rev_list import list_commits
from blocklm.mining.changes import Rules, load_changes
from blocklm.mining.filters import FilterLimits

RULES = Rules(FilterLimits(max_changed_lines=1000))
UNLIMITED = Caps(1 << 40, 1 << 40)
NEW_COMMITS = 100
PYDRILLER_ROUNDS = 1  # it takes ten times as long, and its ratio is far from any bound


def mining_table(paths: list[Path], rounds: int) -> Iterator[str]:
    """Yield the lines of a table, one repository after the other."""
    for path in paths:
        repository = open_repository(path, path)
        older, new = older_head(repository)
        runs: dict[str, list[Measurement]] = {}
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            for number in range(rounds):
                kept = Path(folder) / str(number)
                runs.setdefault("git log -p", []).append(measure_in_process(_log, repository))
                if number < PYDRILLER_ROUNDS:
                    runs.setdefault("PyDriller loop", []).append(measure_in_process(_plain, repository))
                runs.setdefault("BlockLM cold", []).append(measure_in_process(_mine, repository, kept))
                runs.setdefault("BlockLM warm", []).append(measure_in_process(_mine, repository, kept))
                grown = Path(folder) / f"{number}-grown"
                measure_in_process(_mine, replace(repository, head=older), grown)
                runs.setdefault(f"after {new} new commits", []).append(measure_in_process(_mine, repository, grown))
        commits = len(list_commits(repository).shas)
        yield f"{repository.name} at {repository.head[:12]}: {commits} commits, median of {rounds} rounds"
        yield from _lines(runs)


def hygiene_table(paths: list[Path], rounds: int) -> Iterator[str]:
    """Yield the cost of rules, secrets, duplicates and the split over reading the history, by us and by PyDriller."""
    for path in paths:
        repository = open_repository(path, path)
        runs: dict[str, list[Measurement]] = {}
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            for number in range(rounds):
                corpus_dir = Path(folder) / str(number)
                runs.setdefault("mining alone", []).append(measure_in_process(_read, repository))
                runs.setdefault("with rules, secrets", []).append(measure_in_process(_mine, repository, corpus_dir))
                runs.setdefault("curation after it", []).append(measure_in_process(_curate, repository, corpus_dir))
                if number < PYDRILLER_ROUNDS:
                    runs.setdefault("PyDriller loop", []).append(measure_in_process(_plain, repository))
        seconds = {name: statistics.median(run.seconds for run in some) for name, some in runs.items()}
        hygiene = seconds["with rules, secrets"] + seconds["curation after it"] - seconds["mining alone"]
        yield f"{repository.name} at {repository.head[:12]}, median of {rounds} rounds"
        for name, some in runs.items():
            yield f"  {name:24s} {seconds[name]:8.2f} s {max(run.mebibytes for run in some):6.0f} MiB"
        for name in ("mining alone", "PyDriller loop"):
            yield f"  {f'hygiene / {name}':24s} {hygiene / seconds[name]:8.2f}"


def exactness_table(paths: list[Path]) -> Iterator[str]:
    """Compare every commit of each repository with PyDriller's own reading of it."""
    for path in paths:
        repository = open_repository(path, path)
        theirs = pydriller.Git(str(repository.git_dir))
        commits = files = 0
        differing: list[str] = []
        for commit in read_commits(repository, list_commits(repository), caps=UNLIMITED):
            commits, files = commits + 1, files + len(commit.files)
            if commit.error or not _equal(commit, theirs.get_commit(commit.sha)):
                differing.append(f"{commit.sha} {commit.error or 'differs'}")
        yield f"{repository.name}: {commits} commits and {files} changed files compared, {len(differing)} differ"
        yield from (f"  {line}" for line in differing)


def _equal(ours: Commit, theirs: pydriller.Commit) -> bool:
    """Whether paths, kinds, blobs, diffs and line counts are the same."""
    mine = [(f.path, f.old_path, f.before_blob, f.after_blob, f.diff, f.added, f.deleted) for f in ours.files]
    their_files = [] if theirs.merge else theirs.modified_files
    kinds = [{"UNKNOWN": "type"}.get(item.change_type.name, item.change_type.name.lower()) for item in their_files]
    return kinds == [file.change_type for file in ours.files] and mine == [
        (
            item.new_path or item.old_path,
            item.old_path or item.new_path,
            item._c_diff.a_blob.hexsha if item._c_diff.a_blob else None,
            item._c_diff.b_blob.hexsha if item._c_diff.b_blob else None,
            item.diff,
            item.added_lines,
            item.deleted_lines,
        )
        for item in their_files
    ]


def older_head(repository: Repository) -> tuple[str, int]:
    """Find the newest ancestor along first parents that lacks enough commits of the head; return it and their number.

    Enough is `NEW_COMMITS`, or half of a history that is too short for both.
    """
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        ancestors = run_git(environment, "rev-list", "--first-parent", repository.head).stdout.split()
        commits = int(run_git(environment, "rev-list", "--count", repository.head).stdout)
        wanted = min(NEW_COMMITS, commits // 2)
        for ancestor in ancestors:
            counted = run_git(environment, "rev-list", "--count", f"{ancestor}..{repository.head}")
            if int(counted.stdout) >= wanted:
                return ancestor, int(counted.stdout)
    return ancestors[-1], len(ancestors) - 1


def _log(repository: Repository) -> None:
    command = ["git", "-C", str(repository.path), "log", "-p", repository.head]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def _plain(repository: Repository) -> None:
    for commit in pydriller.Repository(str(repository.path)).traverse_commits():
        for item in commit.modified_files:
            assert item.diff is not None


def _mine(repository: Repository, corpus_dir: Path) -> None:
    load_changes(repository, RULES, corpus_dir)


def _read(repository: Repository) -> None:
    for commit in read_commits(repository, list_commits(repository)):
        assert commit.sha


def _curate(repository: Repository, corpus_dir: Path) -> None:
    curate(load_changes(repository, RULES, corpus_dir), MiningArguments(corpus_dir=str(corpus_dir)))


def _lines(runs: dict[str, list[Measurement]]) -> Iterator[str]:
    median = {name: statistics.median(run.seconds for run in measured) for name, measured in runs.items()}
    floor, cold = median["git log -p"], median["BlockLM cold"]
    yield f"  {'':22s} {'seconds':>8s} {'/ log -p':>9s} {'/ cold':>7s} {'MiB':>6s}"
    for name, measured in runs.items():
        seconds, peak = median[name], max(run.mebibytes for run in measured)
        yield f"  {name:22s} {seconds:8.2f} {seconds / floor:9.2f} {seconds / cold:7.2f} {peak:6.0f}"

"""Measures `scripts/mine.py` as a user starts it, imports included, as ratios to `git log -p` in the same run.

Cold is the first run on a machine, which loads the model's tokenizer too; warm is the same command again; a run after
new commits finds the corpus of an older head. Rounds are interleaved. Seconds of CPU are those of all processes; they
can be compared on a busy machine too.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from blocklm.benchmarks.mining import older_head
from blocklm.benchmarks.processes import ProcessRun, run_process
from blocklm.git.repository import Repository, open_repository

RECIPE = "recipes/quickstart.yaml"


def startup_table(paths: list[Path], rounds: int) -> Iterator[str]:
    """Yield the lines of a table, one repository after the other."""
    for path in paths:
        repository = open_repository(path, path)
        older, new = older_head(repository)
        runs: dict[str, list[ProcessRun]] = {}
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            clone = Path(folder) / repository.name
            _clone(repository, clone)
            for number in range(rounds):
                kept, grown = Path(folder) / f"corpora-{number}", Path(folder) / f"corpora-{number}-grown"
                runs.setdefault("git log -p", []).append(_log(clone))
                runs.setdefault("mine.py cold", []).append(_mine(clone, kept))
                runs.setdefault("mine.py warm", []).append(_mine(clone, kept))
                _mine(clone, grown, "--branch", older)
                runs.setdefault(f"after {new} new commits", []).append(_mine(clone, grown))
        yield f"{repository.name} at {repository.head[:12]}, median of {rounds} rounds"
        yield from _lines(runs)


def _clone(repository: Repository, clone: Path) -> None:
    """Make a bare clone whose HEAD is the commit that was opened, whatever the repository's own HEAD becomes."""
    git = ["git", "clone", "--quiet", "--bare", "--no-local", str(repository.git_dir), str(clone)]
    subprocess.run(git, check=True)
    subprocess.run(["git", "-C", str(clone), "update-ref", "--no-deref", "HEAD", repository.head], check=True)


def _log(clone: Path) -> ProcessRun:
    return run_process(["git", "-C", str(clone), "log", "-p", "--output=/dev/null"])


def _mine(clone: Path, corpus_dir: Path, *keys: str) -> ProcessRun:
    places = ["--repo", str(clone), "--corpus_dir", str(corpus_dir)]
    return run_process([sys.executable, "scripts/mine.py", RECIPE, *places, *keys])


def _lines(runs: dict[str, list[ProcessRun]]) -> Iterator[str]:
    seconds = {name: statistics.median(run.seconds for run in measured) for name, measured in runs.items()}
    cpu = {name: statistics.median(run.cpu_seconds for run in measured) for name, measured in runs.items()}
    columns = "".join(f" {unit:>8s} {'/ log -p':>9s} {'/ cold':>7s}" for unit in ("seconds", "of CPU"))
    yield f"  {'':22s}{columns} {'MiB':>6s}"
    for name, measured in runs.items():
        columns = "".join(
            f" {spent[name]:8.2f} {spent[name] / spent['git log -p']:9.2f} {spent[name] / spent['mine.py cold']:7.2f}"
            for spent in (seconds, cpu)
        )
        yield f"  {name:22s}{columns} {max(run.mebibytes for run in measured):6.0f}"

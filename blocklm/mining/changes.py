"""Builds and caches the changes dataset: one row per file changed by a commit, the same for every model.

It is stored in `corpus_dir/NAME/changes-SETTINGS-HEAD`. After the head has moved, the rows of the commits that both
histories begin with are copied, and only the others are mined. After growth, a force-push or a late merge the result
is the same, byte for byte, as if it were mined from scratch.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from blocklm import cache
from blocklm.errors import UserError
from blocklm.git.commits import read_commits
from blocklm.git.isolation import run_git
from blocklm.git.repository import Repository
from blocklm.git.rev_list import Selection, list_commits, missing_objects
from blocklm.mining import filters
from blocklm.mining.change_rows import record_batches
from blocklm.mining.earlier import find_earlier, may_read_better
from blocklm.mining.filters import FilterLimits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.rows_file import known_secrets, write_rows
from blocklm.mining.secrets.known import Key, KnownSecrets
from blocklm.mining.statistics import analyse

logger = logging.getLogger(__name__)

# The packages of ours, and the libraries, that determine the content of a row.
SOURCES = ("git", "mining", "cache")
PACKAGES = ("pydriller", "GitPython", "enry-python", "pathspec", "kingfisher-secret-scanner")


@dataclass(frozen=True)
class Rules:
    """Which part of a history becomes rows, and how.

    Attributes:
        limits: limits above which changes are dropped.
        selection: commits to read; default: all.
        context_lines: unchanged lines around each change.
    """

    limits: FilterLimits
    selection: Selection = field(default_factory=Selection)
    context_lines: int = 3


@dataclass(frozen=True)
class Changes:
    """The mined changes.

    Attributes:
        dataset: one row per changed file.
        report: facts about the repository, and counts.
        cache: `hit`, `extended` or `built`.
        known: the history's secrets, to find them in other texts.
        parts: those of each repository, whose rows `dataset` has one behind the other, if each is split by its own
            time; empty for one history.
    """

    dataset: Dataset
    report: dict[str, Any]
    cache: str
    known: KnownSecrets
    parts: "tuple[Changes, ...]" = ()

    def subjects(self, commits: Sequence[str]) -> dict[str, str]:
        """The first line of each commit's message, without secrets, by commit id."""
        table = self.dataset.data.table.select(["commit", "message"])
        rows = table.filter(pc.is_in(table["commit"], value_set=pa.array(commits, pa.string()))).to_pylist()
        return {row["commit"]: row["message"].partition("\n")[0] for row in rows}


def load_changes(repository: Repository, rules: Rules, corpus_dir: Path) -> Changes:
    """Return the changes of every selected commit: mined, read from the cache, or partly both.

    Raises:
        UserError: the history cannot be walked, or no commit is selected.
    """
    settings = _settings_key(repository, rules)
    folder = corpus_dir / repository.name / f"changes-{settings}-{repository.head[:12]}"
    key = Key.of(corpus_dir)
    stored = _read(folder, repository, key)
    if stored is not None:
        return stored
    with cache.builder_lock(folder):
        stored = _read(folder, repository, key)  # another process may have built it while this one waited
        return stored if stored is not None else _build(folder, key, repository, rules)


def _settings_key(repository: Repository, rules: Rules) -> str:
    shallow = sorted(repository.shallow)  # a clone that was deepened since has more commits
    return cache.data_key(*SOURCES, name=repository.name, shallow=shallow, rules=asdict(rules), **versions())


def versions() -> dict[str, str]:
    """The versions of git and of the libraries that determine the content of a row."""
    git = run_git(dict(os.environ), "--version").stdout.strip()
    return {"git": git} | {name: version(name) for name in PACKAGES}


def _read(folder: Path, repository: Repository, key: Key) -> Changes | None:
    """The cached dataset of this head; None if missing objects have arrived since or the key has changed."""
    stored = cache.read(folder)
    known = known_secrets(folder, key, origin=folder.name)
    if stored is None or known is None:
        return None
    dataset, report = stored.dataset, stored.report
    if may_read_better(repository, report):
        logger.info("commits of %s that could not be read may be readable now: mining them again", repository.name)
        return None
    logger.info("corpus cache hit: %s was mined from the same head with the same settings and rules", folder)
    report["repository"] |= _sources([_source(repository)])
    return Changes(dataset, report, "hit", known)


def _build(folder: Path, key: Key, repository: Repository, rules: Rules) -> Changes:
    history = list_commits(repository, rules.selection)
    if not history.shas:
        keys = _describe_selection(rules.selection)
        raise UserError(f"no commit of {repository.path} is selected by {keys}", "widen or remove the selection")
    earlier = find_earlier(folder, key, repository, history)
    unreadable = dict(earlier.unreadable) if earlier else {}
    start = earlier.commits if earlier else 0
    with cache.publish(folder, owner=repository.spelled_path) as ready:
        kept = earlier.first_batches(key) if earlier else iter(())
        commits = tqdm(
            read_commits(repository, history, start, rules.context_lines),
            f"mining {repository.name}",
            len(history.shas),
            unit=" commits",
            initial=start,
            disable=None,
        )
        mined = record_batches(commits, rules.limits, AttributeHistory(repository), unreadable)
        name = folder.name.removeprefix("changes-")
        dataset = write_rows(ready, kept, mined, KnownSecrets(key), fingerprint=name)
        report = describe(name, [_source(repository)], unreadable, dataset)
        report["missing"] = missing_objects(repository, list(unreadable.values()))
        cache.write_report(ready, report)
    if earlier is not None and earlier.outgrown:
        cache.remove(earlier.folder)
    stored, known = cache.read(folder), known_secrets(folder, key, origin=folder.name)
    assert stored is not None, "it was published above"
    assert known is not None, "it was written above"
    return Changes(stored.dataset, stored.report, "extended" if start else "built", known)


def describe(key: str, sources: list[dict[str, Any]], unreadable: dict[str, str], dataset: Dataset) -> dict[str, Any]:
    """The readable report beside a dataset; its `repository` is also the manifest's entry."""
    return {
        "key": key,
        "repository": _sources(sources) | analyse(dataset) | {"unreadable": unreadable},
        "changes": len(dataset),
        "funnel": filters.funnel(dataset.data.table["drop_reason"].to_pylist()),
    }


def _source(repository: Repository) -> dict[str, Any]:
    return {
        "name": repository.name,
        "path": repository.spelled_path,
        "head": repository.head,
        "branches": repository.branches,
    }


def _sources(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """The names, paths and heads of the repositories, those of several joined by `+`, and their branches in sum."""
    joined = {field: "+".join(source[field] for source in sources) for field in ("name", "path", "head")}
    return joined | {"branches": sum(source["branches"] for source in sources), "sources": sources}


def _describe_selection(selection: Selection) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in asdict(selection).items() if value is not None) or "default"

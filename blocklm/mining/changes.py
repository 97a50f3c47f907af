"""The changes dataset: one row per file changed by a commit, the same for every model, growing with its repository.

It stands in `corpus_dir/NAME/changes-SETTINGS-HEAD`. When the head has moved, the rows of the commits that both histories
begin with are copied and only the others are mined, so that growth, a force-push or a late merge all end in the dataset
that mining from scratch would give, byte for byte.
"""

import logging
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm import tqdm

from blocklm import cache
from blocklm.errors import UserError
from blocklm.git.commits import MALFORMED, read_commits
from blocklm.git.repository import Repository
from blocklm.git.rev_list import History, Selection, list_commits, missing_objects
from blocklm.mining import filters
from blocklm.mining.change_rows import BATCH_COMMITS, FEATURES, record_batches
from blocklm.mining.filters import Limits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.statistics import analyse

logger = logging.getLogger(__name__)

SOURCES = ("git", "mining", "cache")  # whose code decides what a row holds, and the libraries whose results do
PACKAGES = ("pydriller", "GitPython", "enry-python", "pathspec", "kingfisher-secret-scanner")


@dataclass(frozen=True)
class Rules:
    """What of a history becomes rows, and how."""

    limits: Limits
    selection: Selection = field(default_factory=Selection)
    context_lines: int = 3


@dataclass(frozen=True)
class Changes:
    """The mined changes and what is known of their repository; `cache` is `hit`, `extended` or `built`."""

    dataset: Dataset
    report: dict[str, Any]
    cache: str

    def subjects(self, commits: Sequence[str]) -> dict[str, str]:
        """The first lines of the messages of some commits, without secrets."""
        table = self.dataset.data.table.select(["commit", "message"])
        rows = table.filter(pc.is_in(table["commit"], value_set=pa.array(commits, pa.string()))).to_pylist()
        return {row["commit"]: row["message"].partition("\n")[0] for row in rows}


@dataclass(frozen=True)
class _Earlier:
    """A dataset of another head, and how many of its batches and commits this history begins with.

    It is outgrown when its head is part of this history.
    """

    folder: Path
    batches: int
    commits: int
    unreadable: dict[str, str]
    outgrown: bool


def load_changes(repository: Repository, rules: Rules, corpus_dir: Path) -> Changes:
    """Return the changes of every selected commit, mined now, read from the cache, or partly both.

    Raises:
        UserError: the history cannot be walked, or no commit is selected.
    """
    settings = _settings_key(repository, rules)
    folder = corpus_dir / repository.name / f"changes-{settings}-{repository.head[:12]}"
    found = _read(folder, repository)
    if found is not None:
        return found
    with cache.turn(folder):
        found = _read(folder, repository)  # another process may have built it while this one waited
        return found if found is not None else _build(folder, settings, repository, rules)


def _settings_key(repository: Repository, rules: Rules) -> str:
    shallow = sorted(repository.shallow)  # a clone that was deepened since has more to say
    return cache.data_key(*SOURCES, name=repository.name, shallow=shallow, rules=asdict(rules), **versions())


def versions() -> dict[str, str]:
    """Of all that has a say in what a row holds and is not our code."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {"git": git} | {name: version(name) for name in PACKAGES}


def _read(folder: Path, repository: Repository) -> Changes | None:
    """The dataset of exactly this head, unless an object that was missing has come since."""
    stored = cache.read(folder)
    if stored is None:
        return None
    dataset, report = stored
    if _may_read_better(repository, report):
        logger.info("commits of %s that could not be read may be readable now: mining them again", repository.name)
        return None
    logger.info("corpus cache hit: %s was mined from the same head with the same settings and rules", folder)
    report["repository"] |= _sources([_source(repository)])
    return Changes(dataset, report, cache="hit")


def _may_read_better(repository: Repository, report: dict[str, Any]) -> bool:
    """Whether a commit that was unreadable may be readable now.

    A missing object that still is missing explains its commits, and a malformed commit stays one. Anything else (a corrupt
    object, a killed git) may have passed, which only reading again can tell.
    """
    missing = report["missing"]
    if missing_objects(repository, missing) != missing:
        return True
    reasons = report["repository"]["unreadable"].values()
    return any(not why.startswith(MALFORMED) and not any(name in why for name in missing) for why in reasons)


def _build(folder: Path, settings: str, repository: Repository, rules: Rules) -> Changes:
    listed = list_commits(repository, rules.selection)
    if not listed.shas:
        raise UserError(
            f"no commit of {repository.path} is selected by {_told(rules.selection)}", "widen or remove the selection"
        )
    earlier = _earlier(folder, settings, repository, listed)
    unreadable = dict(earlier.unreadable) if earlier else {}
    start = earlier.commits if earlier else 0
    with cache.publish(folder) as ready:
        kept = _first_batches(earlier.folder, earlier.batches) if earlier else iter(())
        mined = tqdm(
            read_commits(repository, listed, start, rules.context_lines),
            f"mining {repository.name}",
            len(listed.shas),
            unit=" commits",
            initial=start,
            disable=None,
        )
        batches = chain(kept, record_batches(mined, rules.limits, AttributeHistory(repository), unreadable))
        key = folder.name.removeprefix("changes-")
        dataset = cache.write_dataset(ready / "data", batches, FEATURES, fingerprint=key)
        report = describe(key, [_source(repository)], unreadable, dataset)
        report["missing"] = missing_objects(repository, list(unreadable.values()))
        cache.write_report(ready, report)
    if earlier is not None and earlier.outgrown:
        cache.remove(earlier.folder)
    stored = cache.read(folder)
    assert stored is not None, "it was published above"
    return Changes(*stored, cache="extended" if start else "built")


def _earlier(folder: Path, settings: str, repository: Repository, listed: History) -> _Earlier | None:
    """Of the datasets of other heads with the same settings, and of unfinished ones, the one that shares most."""
    found = []
    ours = re.compile(rf"changes-{re.escape(settings)}-[0-9a-f]+")  # and no copy: the one that is outgrown is deleted
    for candidate in folder.parent.glob("changes-*"):
        if not ours.fullmatch(candidate.name):
            continue
        stored = cache.read(candidate)
        if stored is None or _may_read_better(repository, stored[1]):
            continue
        batches, shared = _shared(cache.read_batches(candidate / "data"), listed.shas)
        known = stored[1]["repository"]["unreadable"]
        kept = set(listed.shas[:shared])
        unreadable = {sha: why for sha, why in known.items() if sha in kept}
        outgrown = stored[1]["repository"]["head"] in listed.shas
        found.append(_Earlier(candidate, batches, shared, unreadable, outgrown))
    for candidate in cache.unfinished(folder):
        batches, shared = _shared(_salvaged(cache.read_batches(candidate / "data")), listed.shas)
        found.append(_Earlier(candidate, batches, shared, unreadable={}, outgrown=False))
    best = max(found, key=lambda earlier: earlier.commits, default=None)
    return best if best is not None and best.commits else None


def _salvaged(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The whole batches before the first unreadable commit: its reason was to be written at the end, and was not."""
    try:
        for batch in batches:
            if "unreadable" in batch.column("drop_reason").to_pylist():
                return
            yield batch
    except (OSError, pa.ArrowInvalid):
        return


def _shared(batches: Iterable[pa.RecordBatch], shas: Sequence[str]) -> tuple[int, int]:
    """How many batches, and commits in them, the history `shas` begins with; only batches that it would end there too."""
    kept, commits_kept, seen = 0, 0, 0
    for number, batch in enumerate(batches, 1):
        here = batch.column("commit").unique().to_pylist()
        if here != list(shas[seen : seen + len(here)]):
            break
        seen += len(here)
        if seen % BATCH_COMMITS == 0:
            kept, commits_kept = number, seen
    return kept, commits_kept


def _first_batches(folder: Path, count: int) -> Iterator[pa.RecordBatch]:
    for number, batch in enumerate(cache.read_batches(folder / "data")):
        if number == count:
            return
        yield batch


def describe(key: str, sources: list[dict[str, Any]], unreadable: dict[str, str], dataset: Dataset) -> dict[str, Any]:
    """The readable report beside a dataset; its `repository` is the manifest's."""
    return {
        "key": key,
        "repository": _sources(sources) | analyse(dataset) | {"unreadable": unreadable},
        "changes": len(dataset),
        "funnel": filters.funnel(dataset.data.table["drop_reason"].to_pylist()),
    }


def _source(repository: Repository) -> dict[str, Any]:
    return {
        "name": repository.name,
        "path": os.fsencode(repository.path).decode("utf-8", "replace"),
        "head": repository.head,
        "branches": repository.branches,
    }


def _sources(sources: list[dict[str, Any]]) -> dict[str, Any]:
    """What names the corpus's repositories: the only one's own values, or those of several joined by `+`."""
    named = {field: "+".join(source[field] for source in sources) for field in ("name", "path", "head")}
    return named | {"branches": sum(source["branches"] for source in sources), "sources": sources}


def _told(selection: Selection) -> str:
    return ", ".join(f"`{key}: {value}`" for key, value in asdict(selection).items() if value is not None) or "default"

"""Joins the changes of repositories that are split each by its own time; their rows stay in mapped files.

Memory holds only the new positions of the commits. A repository that holds a secret of another is written once more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, concatenate_datasets

from blocklm import cache
from blocklm.mining.change_rows import FEATURES
from blocklm.mining.changes import Changes
from blocklm.mining.rows_file import holds, without_known
from blocklm.mining.secrets.known import KnownSecrets

SUMMED = ("commits", "merges", "authors", "branches")
OF_EACH = ("files_per_commit", "lines_per_commit", "lines_per_file")  # which are not those of all


def join(parts: Sequence[Changes], corpus_dir: Path) -> Changes:
    """Put the rows of all repositories one behind the other; a secret of one is replaced in all.

    Args:
        parts: changes of each repository.
        corpus_dir: folder of cached corpora.
    """
    key = cache.data_key("mining", joint=[part.report["key"] for part in parts])
    secrets = [secret for part in parts for secret in part.known.secrets]
    known = KnownSecrets.of(parts[0].known.key, secrets, origin=key)
    clean = tuple(_without_secrets(part, known, corpus_dir) for part in parts)
    rows = [
        Dataset(shift(part.dataset.data.table, "seq", start))
        for part, start in zip(clean, first_seqs(clean), strict=True)
    ]
    caches = {part.cache for part in parts}
    return Changes(
        concatenate_datasets(rows),
        _report(key, [part.report for part in clean]),
        caches.pop() if len(caches) == 1 else "extended",
        known,
        clean,
    )


def first_seqs(parts: Sequence[Changes]) -> list[int]:
    """The position of each repository's first commit among the commits of all."""
    lengths = [pc.max(part.dataset.data.table["seq"]).as_py() + 1 for part in parts]
    return list(accumulate(lengths[:-1], initial=0))


def first_rows(parts: Sequence[Changes]) -> list[int]:
    """The row of each repository's first change among the changes of all."""
    return list(accumulate((len(part.dataset) for part in parts[:-1]), initial=0))


def shift(table: pa.Table, column: str, by: int) -> pa.Table:
    """Add a number to a column of positions; -1, which stands for none, stays."""
    place, field = table.schema.get_field_index(column), table.schema.field(column)
    values = table[column]
    moved = pc.if_else(pc.equal(values, -1), values, pc.add(values, pa.scalar(by, field.type)))
    return table.set_column(place, field, moved)


def texts_hold(dataset: Dataset, known: KnownSecrets) -> bool:
    """Whether rows hold a known secret."""
    return any(holds(rows, known) for rows in dataset.data.table.to_batches())


def _without_secrets(part: Changes, known: KnownSecrets, corpus_dir: Path) -> Changes:
    """The changes of a repository without the secrets of the others; mostly they are as they were."""
    own = {secret.digest for secret in part.known.secrets}
    others = [secret for secret in known.secrets if secret.digest not in own]
    if not texts_hold(part.dataset, KnownSecrets.of(known.key, others)):
        return part
    key = cache.data_key("mining", "cache", changes=part.report["key"], secrets=[secret.digest for secret in others])
    report = part.report | {"key": key}

    def build(ready: Path) -> dict[str, Any]:
        batches = (without_known(rows, known)[0] for rows in part.dataset.data.table.to_batches())
        cache.write_dataset(ready / "data", batches, FEATURES, fingerprint=key)
        return report

    folder = corpus_dir / part.report["repository"]["name"][:100] / f"joint-{key}"
    return replace(part, dataset=cache.read_or_build(folder, build).dataset, report=report, known=known)


def _report(key: str, reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The report of all: counts are added up, and what describes a typical commit is left to each repository's own."""
    repositories = [report["repository"] for report in reports]
    commits = sum(own["commits"] for own in repositories)
    languages = sum((Counter(own["languages"]) for own in repositories), Counter[str]())
    telling = sum(own["commits"] * own["telling_messages_percent"] for own in repositories)
    repository = {
        **{name: "+".join(own[name] for own in repositories) for name in ("name", "path", "head")},
        **{name: sum(own[name] for own in repositories) for name in SUMMED},
        "sources": [source for own in repositories for source in own["sources"]],
        "first_commit_time": min(own["first_commit_time"] for own in repositories),
        "last_commit_time": max(own["last_commit_time"] for own in repositories),
        "languages": dict(languages.most_common()),
        **{name: {} for name in OF_EACH},
        "telling_messages_percent": round(telling / commits),
        "unreadable": {sha: why for own in repositories for sha, why in own["unreadable"].items()},
        "advice": [],
    }
    return {
        "key": key,
        "repository": repository,
        "changes": sum(report["changes"] for report in reports),
        "funnel": sum_funnels([report["funnel"] for report in reports]),
    }


def sum_funnels(funnels: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Add up what was kept and what each rule dropped."""
    sums: dict[tuple[str, str], int] = {}
    for entry in (entry for funnel in funnels for entry in funnel):
        counted = "kept" if "kept" in entry else "dropped"
        place = entry["rule"], counted
        sums[place] = sums.get(place, 0) + entry[counted]
    return [{"rule": rule, counted: number} for (rule, counted), number in sums.items()]

"""Reads all files at the last training commit, as the current code that new samples should agree with.

The files pass the same rules and secret scan, and have the same columns, as a change that adds them all; no later
commit changes the result. They are cached in `corpus_dir/NAME/files-KEY`.

A partial or damaged clone lacks some files: they are left out, counted in a warning, and read once they are there.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from blocklm import cache
from blocklm.formatting import plural
from blocklm.git.commits import Caps, read_tree
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import read_contents
from blocklm.mining import changes
from blocklm.mining.change_rows import record_batches
from blocklm.mining.filters import FilterLimits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.rows_file import write_rows
from blocklm.mining.secrets.known import Key, KnownSecrets

UNLIMITED_LINES = 1 << 30  # a file may have more lines than a change
CAPS = Caps(file_bytes=1 << 20, commit_bytes=128 << 20)

logger = logging.getLogger(__name__)


def files_at(
    repositories: Sequence[Repository],
    commits: dict[str, str],
    limits: FilterLimits,
    corpus_dir: Path,
    known: KnownSecrets | None = None,
) -> Dataset:
    """Return one row per file of each repository at a commit, with a `diff` that adds all its lines; cached.

    Args:
        repositories: repositories with the files.
        commits: id of the commit of each repository, by the repository's name.
        limits: filter limits; the one on changed lines is ignored.
        corpus_dir: folder of cached corpora.
        known: secrets of the history, which the scan may not recognise in the files; default: none.

    Raises:
        UserError: a commit or one of its trees is missing or corrupt.
    """
    chosen = [repository for repository in repositories if repository.name in commits]
    known = known or KnownSecrets(Key.of(corpus_dir))
    return concatenate_datasets(
        [_files(repository, commits[repository.name], limits, corpus_dir, known) for repository in chosen]
    )


def _files(
    repository: Repository, commit: str, limits: FilterLimits, corpus_dir: Path, known: KnownSecrets
) -> Dataset:
    limits = replace(limits, max_changed_lines=UNLIMITED_LINES)
    settings: dict[str, Any] = {"commit": commit, "limits": asdict(limits), "versions": changes.versions()}
    if known.secrets:  # their digests differ between corpus directories
        settings["known"] = known.origin
    key = cache.data_key(*changes.SOURCES, **settings)

    def build(ready: Path) -> dict[str, Any]:
        change, unreadable = read_tree(repository, commit, CAPS)
        batches = record_batches([change], limits, AttributeHistory(repository), {})
        fingerprint = cache.data_key(files=key, unreadable=unreadable) if unreadable else key
        files = write_rows(ready, (), batches, known, fingerprint)
        return {"key": key, "commit": commit, "files": len(files), "unreadable": unreadable}

    def is_current(report: dict[str, Any]) -> bool:
        return not _any_readable(repository, report["unreadable"])

    stored = cache.read_or_build(corpus_dir / repository.name[:100] / f"files-{key}", build, is_current)
    if unreadable := stored.report["unreadable"]:
        logger.warning(
            "%s of %s at %s cannot be read, because objects are missing or corrupt, and left out; `git fsck` names them",
            plural(len(unreadable), "file"),
            repository.name,
            commit[:12],
        )
    files: Dataset = stored.dataset
    return files


def _any_readable(repository: Repository, blobs: Sequence[str]) -> bool:
    if not blobs:
        return False
    with isolated_repository(repository.git_dir, repository.shallow) as environment:
        return any(True for _ in read_contents(environment, blobs))

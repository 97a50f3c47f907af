"""The files as they stood where training ends: what the newest lessons should agree with.

They go through the rules, the secret scan and the columns of any change, as if one commit had added them all at that
moment; no later commit has a say. They stand in `corpus_dir/NAME/files-KEY`.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from blocklm import cache
from blocklm.git.commits import Caps, read_tree
from blocklm.git.repository import Repository
from blocklm.mining import changes
from blocklm.mining.change_rows import record_batches
from blocklm.mining.filters import FilterLimits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.rows_file import write_rows
from blocklm.mining.secrets.known import Key, KnownSecrets

WHOLE_FILE = 1 << 30  # lines: a file may be longer than a change that teaches
CAPS = Caps(file_bytes=1 << 20, commit_bytes=128 << 20)


def files_at(
    repositories: Sequence[Repository],
    commits: dict[str, str],
    limits: FilterLimits,
    corpus_dir: Path,
    known: KnownSecrets | None = None,
) -> Dataset:
    """One row per file of each repository at its commit, `diff` adding all its lines; read from the cache if it is there.

    Args:
        repositories: where the files are.
        commits: the commit of each repository, by name.
        limits: what of them is left out; a file has no limit of changed lines.
        corpus_dir: where corpora are cached.
        known: secrets of the history, which may stand in the files where nothing gives them away.

    Raises:
        UserError: an object of a tree is missing or corrupt.
    """
    found = [repository for repository in repositories if repository.name in commits]
    known = known or KnownSecrets(Key.of(corpus_dir))
    return concatenate_datasets([_files(there, commits[there.name], limits, corpus_dir, known) for there in found])


def _files(
    repository: Repository, commit: str, limits: FilterLimits, corpus_dir: Path, known: KnownSecrets
) -> Dataset:
    limits = replace(limits, max_changed_lines=WHOLE_FILE)
    settings: dict[str, Any] = {"commit": commit, "limits": asdict(limits), "versions": changes.versions()}
    if known.secrets:  # their digests are this corpus directory's alone
        settings["known"] = known.origin
    key = cache.data_key(*changes.SOURCES, **settings)

    def build(ready: Path) -> dict[str, Any]:
        batches = record_batches([read_tree(repository, commit, CAPS)], limits, AttributeHistory(repository), {})
        files = write_rows(ready, (), batches, known, fingerprint=key)
        return {"key": key, "commit": commit, "files": len(files)}

    dataset, _, _ = cache.read_or_build(corpus_dir / repository.name[:100] / f"files-{key}", build)
    return dataset

"""Builds the items of all tasks from a corpus' held-out commits; an item uses only the history before its commit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.places.co_changes import CoChanges
from blocklm.corpus.rendering import AnnotatedHunk, annotate_hunks
from blocklm.evaluation.tasks.body import BODY, body_items
from blocklm.evaluation.tasks.dead_api import DEAD_API, dead_api_items
from blocklm.evaluation.tasks.imports import IMPORTS, import_items
from blocklm.evaluation.tasks.item import Prompts, TaskItem, spread
from blocklm.evaluation.tasks.repository_state import files_before, removed_symbols
from blocklm.evaluation.tasks.ripple_edit import RIPPLE, ripple_items
from blocklm.evaluation.tasks.which_file import WHICH_FILE, CommitFiles, file_items
from blocklm.evaluation.tasks.write_test import TEST, test_items
from blocklm.git.repository import Repository
from blocklm.mining.redaction import PLACEHOLDERS

Commit = Sequence[AnnotatedHunk]  # its usable hunks, at least one
# The tasks that need only the commit.
OF_COMMIT: dict[str, Callable[[Commit, Prompts], Iterator[TaskItem]]] = {
    RIPPLE: ripple_items,
    BODY: body_items,
    TEST: test_items,
    IMPORTS: import_items,
}


def task_items(
    repositories: Sequence[Repository],
    changes: Dataset,
    verdicts: Dataset,
    prompts: Prompts,
    special_tokens: frozenset[str],
) -> dict[str, list[TaskItem]]:
    """Build the items of each task in landing order, at most eight of one commit.

    Args:
        repositories: the mined repositories.
        changes: the changes dataset.
        verdicts: the verdict on each hunk of `changes`.
        prompts: prompt family by view.
        special_tokens: the model's special tokens; a hunk that contains one is skipped, unless it is our placeholder.
    """
    commits = list(_held_out(changes, verdicts, special_tokens))
    removed = removed_symbols(repositories, changes, commits)
    together = CoChanges(_training_changes(changes, verdicts))
    commit_files = _commit_files(repositories, changes, commits, special_tokens)
    all_items: dict[str, list[TaskItem]] = {name: [] for name in (*OF_COMMIT, WHICH_FILE, DEAD_API)}
    for commit, files in zip(commits, commit_files, strict=True):
        by_task = {name: make_items(commit, prompts) for name, make_items in OF_COMMIT.items()}
        by_task[WHICH_FILE] = file_items(commit, prompts, files, together)
        by_task[DEAD_API] = dead_api_items(commit, prompts, removed.get(_name(commit), frozenset()))
        for name, items in by_task.items():
            all_items[name] += spread(list(items))
    return all_items


def _name(commit: Commit) -> str:
    return commit[0].text.commit


def _held_out(changes: Dataset, verdicts: Dataset, special_tokens: frozenset[str]) -> Iterator[list[AnnotatedHunk]]:
    """Yield the usable hunks of each test commit."""
    table = verdicts.data.table
    kept = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "test"))).to_pylist()
    breaking = special_tokens - set(PLACEHOLDERS)
    for _, hunks in groupby(annotate_hunks(changes, kept), key=lambda hunk: hunk.text.commit):
        usable = [hunk for hunk in hunks if not _has_special_token(hunk, breaking)]
        if usable:
            yield usable


def _has_special_token(hunk: AnnotatedHunk, breaking: frozenset[str]) -> bool:
    text = "\n".join((hunk.text.path, hunk.text.message, *hunk.text.lines))
    return any(token in text for token in breaking)


def _training_changes(changes: Dataset, verdicts: Dataset) -> Iterator[tuple[str, int]]:
    """Yield path and commit, by its position in the history, of each code file that a training commit changed."""
    table = verdicts.data.table
    rows = pc.unique(table.filter(pc.equal(table["split"], "train"))["row"])
    changed = changes.data.table.select(["path", "seq"]).take(rows.cast(pa.int64()))
    return zip(changed["path"].to_pylist(), changed["seq"].to_pylist(), strict=True)


def _commit_files(
    repositories: Sequence[Repository], changes: Dataset, commits: Iterable[Commit], special_tokens: frozenset[str]
) -> Iterator[CommitFiles]:
    """Yield the files of each commit; a file counts as code if mining kept an earlier commit's change of it."""
    by_name = {_name(commit): commit for commit in commits}
    before = files_before(repositories, by_name)
    table = changes.data.table.select(["repo", "commit", "path", "old_path", "drop_reason"])
    known: dict[str, set[str]] = {}
    for sha, of_commit in groupby(_rows(table), key=lambda row: row["commit"]):
        rows = [row for row in of_commit if row["path"] is not None]
        if sha in by_name:
            own = known.setdefault(by_name[sha][0].text.repo, set())
            there = frozenset(path for path in before[sha] & own if not any(token in path for token in special_tokens))
            yield CommitFiles(there, frozenset(path for row in rows for path in (row["path"], row["old_path"])))
        for row in rows:
            if row["drop_reason"] is None:
                known.setdefault(row["repo"], set()).add(row["path"])


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()

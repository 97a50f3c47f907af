"""All tasks of a corpus: what its held-out commits give to ask, decided by the history up to each of them alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.rendering import AnnotatedHunk, annotate_hunks
from blocklm.evaluation.tasks.body import BODY, body_items
from blocklm.evaluation.tasks.dead_api import DEAD_API, dead_api_items
from blocklm.evaluation.tasks.imports import IMPORTS, import_items
from blocklm.evaluation.tasks.item import Prompts, TaskItem, spread
from blocklm.evaluation.tasks.repository_state import files_before, removed_symbols
from blocklm.evaluation.tasks.ripple_edit import RIPPLE, ripple_items
from blocklm.evaluation.tasks.which_file import WHICH_FILE, CoChanges, CommitFiles, file_items
from blocklm.evaluation.tasks.write_test import TEST, test_items
from blocklm.git.repository import Repository
from blocklm.mining.redaction import PLACEHOLDERS

Commit = Sequence[AnnotatedHunk]  # the hunks of one that may ask, at least one
# The tasks that need nothing but the commit.
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
    """The items of each task in landing order, at most eight of one commit.

    Args:
        repositories: that were mined.
        changes: the changes dataset.
        verdicts: the verdict on each of its hunks.
        prompts: the family whose prompts each view takes.
        special_tokens: of the model; a hunk that holds one asks nothing, except for our own placeholders.
    """
    commits = list(_held_out(changes, verdicts, special_tokens))
    removed = removed_symbols(repositories, changes, commits)
    together = CoChanges(_training_commits(changes, verdicts))
    scenes = _scenes(repositories, changes, commits, special_tokens)
    found: dict[str, list[TaskItem]] = {name: [] for name in (*OF_COMMIT, WHICH_FILE, DEAD_API)}
    for commit, scene in zip(commits, scenes, strict=True):
        asked = {name: items(commit, prompts) for name, items in OF_COMMIT.items()}
        asked[WHICH_FILE] = file_items(commit, prompts, scene, together)
        asked[DEAD_API] = dead_api_items(commit, prompts, removed.get(_name(commit), frozenset()))
        for name, items in asked.items():
            found[name] += spread(list(items))
    return found


def _name(commit: Commit) -> str:
    return commit[0].text.commit


def _held_out(changes: Dataset, verdicts: Dataset, special_tokens: frozenset[str]) -> Iterator[list[AnnotatedHunk]]:
    """The hunks that may ask, commit by commit."""
    table = verdicts.data.table
    kept = table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["split"], "test"))).to_pylist()
    breaking = special_tokens - set(PLACEHOLDERS)
    for _, some in groupby(annotate_hunks(changes, kept), key=lambda lesson: lesson.text.commit):
        readable = [lesson for lesson in some if not _breaks(lesson, breaking)]
        if readable:
            yield readable


def _breaks(lesson: AnnotatedHunk, breaking: frozenset[str]) -> bool:
    whole = "\n".join((lesson.text.path, lesson.text.message, *lesson.text.lines))
    return any(token in whole for token in breaking)


def _training_commits(changes: Dataset, verdicts: Dataset) -> Iterator[frozenset[str]]:
    """The files of code that each training commit changed."""
    table = verdicts.data.table
    rows = pc.unique(table.filter(pc.equal(table["split"], "train"))["row"])
    taught = changes.data.table.select(["commit", "path"]).take(rows.cast(pa.int64())).to_pylist()
    for _, some in groupby(taught, key=lambda row: row["commit"]):
        yield frozenset(row["path"] for row in some)


def _scenes(
    repositories: Sequence[Repository], changes: Dataset, commits: Iterable[Commit], special_tokens: frozenset[str]
) -> Iterator[CommitFiles]:
    """What is known of each commit's files; of code is what a change of an earlier commit was kept for."""
    asked = {_name(commit): commit for commit in commits}
    standing = files_before(repositories, asked)
    table = changes.data.table.select(["repo", "commit", "path", "old_path", "drop_reason"])
    known: dict[str, set[str]] = {}
    for sha, some in groupby(_rows(table), key=lambda row: row["commit"]):
        rows = [row for row in some if row["path"] is not None]
        if sha in asked:
            own = known.setdefault(asked[sha][0].text.repo, set())
            there = frozenset(
                path for path in standing[sha] & own if not any(token in path for token in special_tokens)
            )
            yield CommitFiles(there, frozenset(path for row in rows for path in (row["path"], row["old_path"])))
        for row in rows:
            if row["drop_reason"] is None:
                known.setdefault(row["repo"], set()).add(row["path"])


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=10_000):
        yield from batch.to_pylist()

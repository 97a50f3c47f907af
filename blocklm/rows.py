"""The columns of the changes dataset, and commits turned into rows and record batches."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
from datasets import Features, List, Value

from blocklm import hygiene
from blocklm.commits import Commit
from blocklm.hygiene import Limits
from blocklm.messages import clean_message

FEATURES = Features(
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
NO_FILE = (None, None, None, None, None, None, "", 0, 0)
# A batch ends after this many commits of the history, or earlier when its text outgrows memory: where batches end depends on
# the history alone, so those of an earlier dataset can be copied whole.
BATCH_COMMITS = 64
BATCH_BYTES = 16 << 20
# Every row of a commit repeats its message: a changelog of a megabyte would be stored once per file.
MESSAGE_CHARS = 10_000


def record_batches(history: Iterable[Commit], limits: Limits, unreadable: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """Turn commits into rows and rows into record batches; note the commits that cannot be read."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for commit in history:
        if commit.error is not None:
            unreadable[commit.sha] = commit.error
        for row in _rows(commit, limits):
            rows.append(row)
            size += len(row[-4]) + len(row[7])
        if (commit.seq + 1) % BATCH_COMMITS == 0 or size >= BATCH_BYTES:
            yield _batch(rows)
            rows, size = [], 0
    if rows:
        yield _batch(rows)


def _batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    schema = FEATURES.arrow_schema
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _rows(commit: Commit, limits: Limits) -> Iterator[tuple[Any, ...]]:
    """One row per changed file, or one without a path for a commit that has none to show; in the order of `FEATURES`."""
    shared = (
        commit.repo,
        commit.sha,
        commit.parents,
        commit.seq,
        commit.author,
        commit.author_time,
        commit.commit_time,
        clean_message(commit.message)[:MESSAGE_CHARS],
        len(commit.files),
    )
    reason = hygiene.screen_commit(commit)
    if reason is not None:
        yield (*shared, *NO_FILE, reason)
        return
    for change in commit.files:
        reason = hygiene.screen(change, limits)
        yield (
            *shared,
            change.path,
            change.old_path,
            change.change_type,
            hygiene.language_of(change.path),
            change.before_blob,
            change.after_blob,
            "" if reason else change.diff,
            change.added,
            change.deleted,
            reason,
        )

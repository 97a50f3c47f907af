"""Makes the documents of a search: one for each kept change, or one for each piece of a file at the head.

`group` is the commit or the file; a search ranks groups by their best document. All texts come from datasets without
secrets. A document's id is a hash of its searched text, so that the same text has one embedding whatever commit, head
or run it belongs to.
"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

import pyarrow as pa
from datasets import Dataset, Features, Value

from blocklm.cache import record_batch
from blocklm.mining.hunks import hunks_of

FEATURES = Features(
    {
        "id": Value("string"),
        "group": Value("string"),
        "repo": Value("string"),
        "commit": Value("string"),
        "seq": Value("int32"),
        "commit_time": Value("timestamp[s, tz=UTC]"),
        "subject": Value("string"),
        "path": Value("string"),
        "line": Value("int32"),
        "searched": Value("large_string"),
        "text": Value("large_string"),
    }
)
MESSAGE_CHARS = 1000
SEARCHED_CHARS = 6000  # of changed lines: a longer text matches every question a little
SHOWN_CHARS = 2000
PIECE_LINES = 20
ROWS_AT_ONCE = 500


class Change(NamedTuple):
    """The columns of the changes dataset from which documents are made."""

    repo: str
    commit: str
    seq: int
    commit_time: datetime
    message: str
    path: str
    diff: str
    drop_reason: str | None


class Document(NamedTuple):
    """A row with the columns `FEATURES`.

    Attributes:
        id: hash of `searched`.
        group: commit or file that a search ranks.
        subject: first line of the commit message; empty for a file.
        line: number of the first line in its file; 0 for a change.
        searched: text that a search reads.
        text: text that a hit shows.
    """

    id: str
    group: str
    repo: str
    commit: str
    seq: int
    commit_time: datetime
    subject: str
    path: str
    line: int
    searched: str
    text: str


def change_documents(changes: Dataset, messages: bool = True) -> Iterator[pa.RecordBatch]:
    """Yield a document for each kept change: its commit message, path and changed lines.

    Args:
        changes: the changes dataset.
        messages: whether commit messages are searched; without them a search can be judged by the commits' subjects.
    """
    for kept in _kept_changes(changes):
        documents = [_change_document(change, messages) for change in kept]
        if documents:
            yield record_batch(documents, FEATURES.arrow_schema)


def _change_document(change: Change, messages: bool) -> Document:
    hunks = hunks_of(change.diff)
    changed = "\n".join(line for hunk in hunks for line in (*hunk.added, *hunk.removed))
    heading = f"{change.message[:MESSAGE_CHARS]}\n" if messages else ""
    searched = f"{heading}{change.path}\n{changed[:SEARCHED_CHARS]}"
    shown = "\n".join("\n".join(hunk.lines) for hunk in hunks)
    return Document(
        id=_document_id(searched),
        group=change.commit,
        repo=change.repo,
        commit=change.commit,
        seq=change.seq,
        commit_time=change.commit_time,
        subject=change.message.partition("\n")[0],
        path=change.path,
        line=0,
        searched=searched,
        text=_clip(shown),
    )


def file_documents(files: Dataset) -> Iterator[pa.RecordBatch]:
    """Yield a document for each piece of `PIECE_LINES` lines of each kept file.

    Args:
        files: dataset with the columns of changes, in which each row adds a file with all its lines.
    """
    for kept in _kept_changes(files):
        documents = [piece for file in kept for piece in _piece_documents(file)]
        if documents:
            yield record_batch(documents, FEATURES.arrow_schema)


def _piece_documents(file: Change) -> Iterator[Document]:
    lines = [line for hunk in hunks_of(file.diff) for line in hunk.added]
    for start in range(0, len(lines), PIECE_LINES):
        text = "\n".join(lines[start : start + PIECE_LINES])
        if text.strip():
            searched = f"{file.path}\n{text[:SEARCHED_CHARS]}"
            yield Document(
                id=_document_id(searched),
                group=f"{file.repo}/{file.path}",
                repo=file.repo,
                commit=file.commit,
                seq=file.seq,
                commit_time=file.commit_time,
                subject="",
                path=file.path,
                line=start + 1,
                searched=searched,
                text=_clip(text),
            )


def _kept_changes(changes: Dataset) -> Iterator[list[Change]]:
    """Yield the changes of each batch that are kept and have a diff."""
    for batch in changes.select_columns([*Change._fields]).iter(ROWS_AT_ONCE):
        rows = map(Change._make, zip(*(batch[name] for name in Change._fields), strict=True))
        yield [change for change in rows if change.drop_reason is None and change.diff]


def _document_id(searched: str) -> str:
    return sha256(searched.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _clip(text: str) -> str:
    """Keep the first complete lines within `SHOWN_CHARS`, or the beginning of a longer first line."""
    if len(text) <= SHOWN_CHARS:
        return text
    return text[:SHOWN_CHARS].rpartition("\n")[0] or text[:SHOWN_CHARS]

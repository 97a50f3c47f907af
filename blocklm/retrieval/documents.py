"""Makes the documents of a search: one for each kept change, or one for each piece of a file at the head.

`group` is the commit or the file; a search ranks groups by their best document. All texts come from datasets without
secrets. A document's id is a hash of its searched text, so that the same text has one embedding whatever commit, head
or run it belongs to.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

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
COLUMNS = ["repo", "commit", "seq", "commit_time", "message", "path", "diff", "drop_reason"]


def change_documents(changes: Dataset, messages: bool = True) -> Iterator[pa.RecordBatch]:
    """Yield a document for each kept change: its commit message, path and changed lines.

    Args:
        changes: the changes dataset.
        messages: whether commit messages are searched; without them a search can be judged by the commits' subjects.
    """
    for batch in changes.select_columns(COLUMNS).iter(ROWS_AT_ONCE):
        rows = zip(*(batch[name] for name in COLUMNS), strict=True)
        found = [_change_document(*row, messages=messages) for *row, reason in rows if reason is None and row[-1]]
        if found:
            yield record_batch(found, FEATURES.arrow_schema)


def _change_document(
    repo: str, commit: str, seq: int, time: Any, message: str, path: str, diff: str, *, messages: bool
) -> tuple[Any, ...]:
    hunks = hunks_of(diff)
    changed = "\n".join(line for hunk in hunks for line in (*hunk.added, *hunk.removed))
    heading = f"{message[:MESSAGE_CHARS]}\n" if messages else ""
    searched = f"{heading}{path}\n{changed[:SEARCHED_CHARS]}"
    shown = "\n".join("\n".join(hunk.lines) for hunk in hunks)
    return (
        _document_id(searched),
        commit,
        repo,
        commit,
        seq,
        time,
        message.partition("\n")[0],
        path,
        0,
        searched,
        _clip(shown),
    )


def file_documents(files: Dataset) -> Iterator[pa.RecordBatch]:
    """Yield a document for each piece of `PIECE_LINES` lines of each kept file.

    Args:
        files: dataset with the columns of changes, in which each row adds a file with all its lines.
    """
    for batch in files.select_columns(COLUMNS).iter(ROWS_AT_ONCE):
        rows = zip(*(batch[name] for name in COLUMNS), strict=True)
        found = [piece for *row, reason in rows if reason is None and row[-1] for piece in _piece_documents(*row)]
        if found:
            yield record_batch(found, FEATURES.arrow_schema)


def _piece_documents(
    repo: str, commit: str, seq: int, time: Any, _: str, path: str, diff: str
) -> Iterator[tuple[Any, ...]]:
    lines = [line for hunk in hunks_of(diff) for line in hunk.added]
    for start in range(0, len(lines), PIECE_LINES):
        text = "\n".join(lines[start : start + PIECE_LINES])
        if text.strip():
            searched = f"{path}\n{text[:SEARCHED_CHARS]}"
            yield (
                _document_id(searched),
                f"{repo}/{path}",
                repo,
                commit,
                seq,
                time,
                "",
                path,
                start + 1,
                searched,
                _clip(text),
            )


def _document_id(searched: str) -> str:
    return sha256(searched.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _clip(text: str) -> str:
    """Keep the first complete lines within `SHOWN_CHARS`, or the beginning of a longer first line."""
    if len(text) <= SHOWN_CHARS:
        return text
    return text[:SHOWN_CHARS].rpartition("\n")[0] or text[:SHOWN_CHARS]

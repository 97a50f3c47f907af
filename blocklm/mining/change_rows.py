"""Defines the columns of the changes dataset, and turns commits into its rows and record batches."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Features, List, Value

from blocklm.cache import record_batch
from blocklm.git.commits import Commit, FileChange
from blocklm.mining import filters
from blocklm.mining.file_types import FileKind, apply_attributes, kind_of
from blocklm.mining.filters import FilterLimits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.hunks import hunks_of, removed_lines
from blocklm.mining.messages import clean_message
from blocklm.mining.redaction import UNSCANNED, Redacted, prepare, redact_each
from blocklm.mining.secrets.known import Secret

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
        "hunk_reasons": List(Value("string")),
        "redactions": List(Value("string")),
        "weight": Value("float32"),
    }
)
# A batch ends after this many commits of the history, or earlier when its text outgrows memory. Where batches end
# depends on the history alone, so that batches of an earlier dataset can be copied.
BATCH_COMMITS = 64
BATCH_BYTES = 16 << 20
BATCHES_AHEAD = 1  # read while another is searched for secrets
# Every row of a commit repeats its message, so a changelog of a megabyte would be stored once per file. The message is
# cut after the search for secrets, or else a part of a secret could stay. The searched text is bounded too, far above
# the cut.
MESSAGE_CHARS, SEARCHED_CHARS = 10_000, 1_000_000
# The rule whose files are dropped but still searched for secrets, since other files may hold the same ones.
SEARCHED_RULE = "key_file"


@dataclass(frozen=True, slots=True)
class MinedBatch:
    """Rows of complete commits, and their secrets that can be recognised by value alone."""

    rows: pa.RecordBatch
    secrets: tuple[Secret, ...]


@dataclass(slots=True)
class _Draft:
    """A row before its texts are searched for secrets."""

    commit: Commit
    message: str
    removed: frozenset[str]
    reason: str | None
    change: FileChange | None = None
    kind: FileKind | None = None
    first: bool = False

    @property
    def texts(self) -> tuple[str, str, str, str]:
        if self.change is None:
            return self.message, "", "", ""
        diff = "" if self.reason not in (None, SEARCHED_RULE) else self.change.diff
        return self.message, self.change.path, self.change.old_path, diff


def record_batches(
    history: Iterable[Commit], limits: FilterLimits, attributes: AttributeHistory, unreadable: dict[str, str]
) -> Iterator[MinedBatch]:
    """Turn commits into record batches of rows without secrets.

    Args:
        history: commits in landing order.
        limits: limits above which changes are dropped.
        attributes: reader of the `.gitattributes` files at each commit.
        unreadable: filled with the reason for each commit that cannot be read, by its id.

    Raises:
        UserError: the secret scanner does not start.
    """
    with ThreadPoolExecutor(max_workers=1) as executor:  # the scanner releases the interpreter's lock
        pending: deque[Future[MinedBatch]] = deque()
        for drafts in _draft_batches(history, limits, attributes):
            pending.append(executor.submit(_batch, drafts, limits, unreadable))
            if len(pending) > BATCHES_AHEAD:
                yield pending.popleft().result()
        for batch in pending:
            yield batch.result()


def _draft_batches(
    history: Iterable[Commit], limits: FilterLimits, attributes: AttributeHistory
) -> Iterator[list[_Draft]]:
    """Yield the drafts of each batch."""
    drafts: list[_Draft] = []
    size = 0
    for commit in history:
        for draft in _drafts(commit, limits, attributes):
            drafts.append(draft)
            size += sum(map(len, draft.texts))
        if (commit.seq + 1) % BATCH_COMMITS == 0 or size >= BATCH_BYTES:
            yield drafts
            drafts, size = [], 0
    if drafts:
        yield drafts


def _drafts(commit: Commit, limits: FilterLimits, attributes: AttributeHistory) -> Iterator[_Draft]:
    """Yield one draft per changed file, or one without a file for a commit without changed files."""
    message = clean_message(commit.message, commit.author_name)[:SEARCHED_CHARS]
    rules = attributes.at(commit)
    reason = filters.screen_commit(commit, limits)
    if not commit.files:
        yield _Draft(commit, message, frozenset(), reason, first=True)
        return
    kinds = [kind_of(change.path) for change in commit.files]
    if rules is not None:
        kinds = [apply_attributes(kind, rules.of(c.path)) for kind, c in zip(kinds, commit.files, strict=True)]
    reasons = [reason or filters.screen(c, kind, limits) for kind, c in zip(kinds, commit.files, strict=True)]
    moves_possible = None in reasons and any(change.deleted for change in commit.files)
    removed = removed_lines([change.diff for change in commit.files]) if moves_possible else frozenset()
    for number, (change, kind, why) in enumerate(zip(commit.files, kinds, reasons, strict=True)):
        yield _Draft(commit, message, removed, why, change, kind, first=number == 0)


def _batch(drafts: list[_Draft], limits: FilterLimits, unreadable: dict[str, str]) -> MinedBatch:
    prepare()
    texts = list(dict.fromkeys(text for draft in drafts for text in draft.texts))
    redacted = redact_each(texts)
    for commit in (draft.commit for draft in drafts):
        if commit.error is not None:
            unreadable[commit.sha] = redact_each([commit.error])[commit.error].text
    rows = record_batch([_row(draft, redacted, limits) for draft in drafts], FEATURES.arrow_schema)
    return MinedBatch(rows, tuple(dict.fromkeys(secret for text in texts for secret in redacted[text].opaque)))


def _row(draft: _Draft, redacted: dict[str, Redacted], limits: FilterLimits) -> tuple[Any, ...]:
    """The values of a row, in the order of `FEATURES`."""
    commit, change = draft.commit, draft.change
    message, path, old_path, diff = (redacted[text] for text in draft.texts)
    shared = (
        commit.repo,
        commit.sha,
        commit.parents,
        commit.seq,
        commit.author,
        commit.author_time,
        commit.commit_time,
        message.text[:MESSAGE_CHARS],
        len(commit.files),
    )
    message_kinds = message.kinds if draft.first else ()
    if change is None or draft.kind is None:
        return (*shared, None, None, None, None, None, None, "", 0, 0, draft.reason, [], message_kinds, 1.0)
    reason = draft.reason or _redaction_reason(message, path, old_path, diff)
    hunk_reasons: list[str | None] = []
    if reason is None:
        hunk_reasons = filters.screen_hunks(hunks_of(diff.text), draft.removed, limits)
        if None not in hunk_reasons:
            reason, hunk_reasons = Counter(hunk_reasons).most_common(1)[0][0], []
    return (
        *shared,
        path.text,
        old_path.text,
        change.change_type,
        draft.kind.language,
        change.before_blob,
        change.after_blob,
        "" if reason else diff.text,
        change.added,
        change.deleted,
        reason,
        hunk_reasons,
        [*message_kinds, *path.kinds, *(() if draft.reason else diff.kinds)],
        filters.WEIGHTS.get(draft.kind.type, 1.0),
    )


def _redaction_reason(*texts: Redacted) -> str | None:
    """The drop reason that follows from the redaction of a change's texts; None to keep it."""
    if any(UNSCANNED in text.kinds for text in texts):
        return UNSCANNED
    return "credentials" if texts[-1].credentials > filters.MAX_CREDENTIALS else None

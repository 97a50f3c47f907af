"""The columns of the changes dataset, and commits turned into rows and record batches."""

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
from blocklm.mining.file_types import FileKind, corrected, kind_of
from blocklm.mining.filters import FilterLimits
from blocklm.mining.gitattributes import AttributeHistory
from blocklm.mining.hunks import hunks_of, removed_lines
from blocklm.mining.messages import clean_message
from blocklm.mining.redaction import Redacted, prepare, redact
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
# A batch ends after this many commits of the history, or earlier when its text outgrows memory: where batches end depends on
# the history alone, so those of an earlier dataset can be copied whole.
BATCH_COMMITS = 64
BATCH_BYTES = 16 << 20
BATCHES_AHEAD = 1  # read while one is searched
# Every row of a commit repeats its message: a changelog of a megabyte would be stored once per file. It is cut after it is
# searched for secrets, or half of one could stay; what is searched has a bound too, far beyond what redaction can shrink.
MESSAGE_CHARS, SEARCHED_CHARS = 10_000, 1_000_000
UNSCANNED = "unscanned"
# The rule whose files are not kept, but searched: what they hold may stand elsewhere too.
KEYS_KNOWN = "key_file"


@dataclass(frozen=True, slots=True)
class MinedBatch:
    """Rows of whole commits, and the secrets in them that can be known by their value."""

    rows: pa.RecordBatch
    secrets: tuple[Secret, ...]


@dataclass(slots=True)
class _Draft:
    """A row to be: what is known before its texts are searched for secrets."""

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
        diff = "" if self.reason not in (None, KEYS_KNOWN) else self.change.diff
        return self.message, self.change.path, self.change.old_path, diff


def record_batches(
    history: Iterable[Commit], limits: FilterLimits, attributes: AttributeHistory, unreadable: dict[str, str]
) -> Iterator[MinedBatch]:
    """Turn commits into rows and rows into record batches, without secrets; note the commits that cannot be read.

    Raises:
        UserError: the secret scanner does not start.
    """
    with ThreadPoolExecutor(max_workers=1) as aside:  # the scanner lets other threads run
        waiting: deque[Future[MinedBatch]] = deque()
        for drafts in _gathered(history, limits, attributes):
            waiting.append(aside.submit(_batch, drafts, limits, unreadable))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft().result()
        for batch in waiting:
            yield batch.result()


def _gathered(history: Iterable[Commit], limits: FilterLimits, attributes: AttributeHistory) -> Iterator[list[_Draft]]:
    """The drafts of one batch after the other."""
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
    """One per changed file, or one without a file for a commit that has none to show."""
    message = clean_message(commit.message, commit.author_name)[:SEARCHED_CHARS]
    rules = attributes.at(commit)
    reason = filters.screen_commit(commit, limits)
    if not commit.files:
        yield _Draft(commit, message, frozenset(), reason, first=True)
        return
    kinds = [kind_of(change.path) for change in commit.files]
    if rules is not None:
        kinds = [corrected(kind, rules.of(c.path)) for kind, c in zip(kinds, commit.files, strict=True)]
    reasons = [reason or filters.screen(c, kind, limits) for kind, c in zip(kinds, commit.files, strict=True)]
    moves_possible = None in reasons and any(change.deleted for change in commit.files)
    removed = removed_lines([change.diff for change in commit.files]) if moves_possible else frozenset()
    for number, (change, kind, why) in enumerate(zip(commit.files, kinds, reasons, strict=True)):
        yield _Draft(commit, message, removed, why, change, kind, first=number == 0)


def _batch(drafts: list[_Draft], limits: FilterLimits, unreadable: dict[str, str]) -> MinedBatch:
    prepare()
    texts = list(dict.fromkeys(text for draft in drafts for text in draft.texts))
    redacted = _redacted(texts)
    for commit in (draft.commit for draft in drafts):
        if commit.error is not None:
            unreadable[commit.sha] = _redacted([commit.error])[commit.error].text
    rows = record_batch([_row(draft, redacted, limits) for draft in drafts], FEATURES.arrow_schema)
    return MinedBatch(rows, tuple(dict.fromkeys(secret for text in texts for secret in redacted[text].opaque)))


def _redacted(texts: list[str]) -> dict[str, Redacted]:
    """Each text without its secrets; one that the scanner fails on is replaced whole."""
    unique = list(dict.fromkeys(texts))
    try:
        return dict(zip(unique, redact(unique), strict=True))
    except Exception:  # whatever it is: what was not searched is not written
        if len(unique) == 1:
            return {unique[0]: Redacted(f"<{UNSCANNED}>", (UNSCANNED,))}
        return {text: found for text in unique for found in _redacted([text]).values()}


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
    of_message = message.kinds if draft.first else ()
    if change is None or draft.kind is None:
        return (*shared, None, None, None, None, None, None, "", 0, 0, draft.reason, [], of_message, 1.0)
    reason = draft.reason or _reason_of(message, path, old_path, diff)
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
        [*of_message, *path.kinds, *(() if draft.reason else diff.kinds)],
        filters.WEIGHTS.get(draft.kind.type, 1.0),
    )


def _reason_of(*texts: Redacted) -> str | None:
    """Why a change is dropped for what was found in its texts."""
    if any(UNSCANNED in text.kinds for text in texts):
        return UNSCANNED
    return "credentials" if texts[-1].credentials > filters.MAX_CREDENTIALS else None

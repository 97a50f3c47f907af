"""Writes the change rows, and then replaces in every batch the secrets that were found in any other.

A file beside the rows lists, for each batch, the secrets found in it and those found elsewhere and replaced in it, as
keyed digests. So a dataset that grew can keep its batches, and their secrets are known without mining them again.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
from datasets import Dataset

from blocklm import cache
from blocklm.mining.change_rows import FEATURES, MinedBatch
from blocklm.mining.secrets.known import Key, KnownSecret, KnownSecrets

ROWS, LEDGER = "data", "secrets.jsonl"
TEXTS = ("message", "path", "old_path", "diff")
_NO_ROWS = pa.RecordBatch.from_arrays([], [])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of complete commits.

    Attributes:
        rows: the rows.
        found: secrets found in them.
        replaced: digests of secrets that were found in other batches and replaced in them.
    """

    rows: pa.RecordBatch
    found: tuple[KnownSecret, ...] = ()
    replaced: tuple[str, ...] = ()


def write_rows(
    ready: Path, kept: Iterable[Batch], mined: Iterable[MinedBatch], known: KnownSecrets, fingerprint: str
) -> Dataset:
    """Write the batches of a dataset, then replace in each the secrets found in another.

    Args:
        ready: folder to fill.
        kept: first batches, copied from an earlier dataset.
        mined: all further batches.
        known: secrets found elsewhere before, with the key of all digests.
        fingerprint: fingerprint of the dataset.
    """
    ledger = list[Batch]()

    def write_ledger() -> Iterator[pa.RecordBatch]:
        with (ready / LEDGER).open("w", encoding="utf-8") as file:
            file.write(json.dumps({"key": known.key.name}) + "\n")
            for batch in _batches(kept, mined, known.key):
                file.write(_line(batch))
                file.flush()
                ledger.append(Batch(_NO_ROWS, batch.found, batch.replaced))
                yield batch.rows

    dataset = cache.write_dataset(ready / ROWS, write_ledger(), FEATURES, fingerprint)
    everything = KnownSecrets.of(known.key, [*known.secrets, *(secret for batch in ledger for secret in batch.found)])
    if not any(holds(rows, everything) for rows in cache.read_batches(ready / ROWS)):
        return dataset
    cleaned = list[Batch]()

    def clean_batches() -> Iterator[pa.RecordBatch]:
        for rows, batch in zip(cache.read_batches(ready / ROWS), ledger, strict=True):
            clean, replaced = without_known(rows, everything)
            cleaned.append(Batch(_NO_ROWS, batch.found, (*batch.replaced, *replaced)))
            yield clean

    cache.write_dataset(ready / "clean", clean_batches(), FEATURES, fingerprint)
    (ready / LEDGER).unlink()  # after an interruption here, the ledger would describe the rows before the replacement
    cache.remove(ready / ROWS)
    (ready / "clean").rename(ready / ROWS)
    lines = [json.dumps({"key": known.key.name}) + "\n", *map(_line, cleaned)]
    (ready / LEDGER).write_text("".join(lines), encoding="utf-8")
    return Dataset.load_from_disk(str(ready / ROWS))


def read_rows(folder: Path, key: Key) -> Iterator[Batch]:
    """Yield the batches of a dataset, finished or not; none if its digests were made with another key.

    Raises:
        OSError, pyarrow.ArrowInvalid: the file is unfinished or damaged; raised after the last complete batch.
    """
    ledger = _ledger(folder, key)
    if ledger is not None:
        for rows, (secrets, replaced) in zip(cache.read_batches(folder / ROWS), ledger, strict=False):
            yield Batch(rows, secrets, replaced)


def known_secrets(folder: Path, key: Key, origin: str) -> KnownSecrets | None:
    """The secrets found in a dataset; None if their digests were made with another key."""
    ledger = _ledger(folder, key)
    if ledger is None:
        return None
    return KnownSecrets.of(key, (secret for secrets, _ in ledger for secret in secrets), origin)


def without_known(rows: pa.RecordBatch, known: KnownSecrets) -> tuple[pa.RecordBatch, tuple[str, ...]]:
    """Replace the known secrets in rows.

    Returns:
        The rows, and the digests of the secrets that were replaced.
    """
    if not holds(rows, known):
        return rows, ()
    columns = {name: rows.column(name).to_pylist() for name in (*TEXTS, "commit", "redactions")}
    replaced: set[int] = set()
    for row, commit in enumerate(columns["commit"]):
        first = row == 0 or columns["commit"][row - 1] != commit
        counted: list[int] = []  # sorted below: kinds are listed as if the secrets were replaced one by one
        for name in TEXTS:
            if columns[name][row]:
                columns[name][row], ranks = known.replace(columns[name][row])
                replaced.update(ranks)
                if name != "old_path" and (name != "message" or first):  # as the rest of a row's kinds are counted
                    counted += ranks
        columns["redactions"][row] = [
            *columns["redactions"][row],
            *(known.secrets[rank].kind for rank in sorted(counted)),
        ]
    for name in (*TEXTS, "redactions"):
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(index)
        rows = rows.set_column(index, field, pa.array(columns[name], field.type))
    return rows, tuple(known.secrets[rank].digest for rank in sorted(replaced))


def _batches(kept: Iterable[Batch], mined: Iterable[MinedBatch], key: Key) -> Iterator[Batch]:
    yield from kept
    for batch in mined:
        yield Batch(batch.rows, tuple(map(key.known, batch.secrets)))


def holds(rows: pa.RecordBatch, known: KnownSecrets) -> bool:
    """Whether a text column holds a known secret; each column is searched as one text."""
    columns = (rows.column(name).buffers()[2] for name in TEXTS)
    return any(known.stand_in(memoryview(column)) for column in columns if column is not None)


def _line(batch: Batch) -> str:
    return json.dumps({"found": [asdict(secret) for secret in batch.found], "replaced": batch.replaced}) + "\n"


def _ledger(folder: Path, key: Key) -> list[tuple[tuple[KnownSecret, ...], tuple[str, ...]]] | None:
    """The secrets and digests of each batch; of an unfinished file those of its complete lines."""
    try:
        first, *lines = (folder / LEDGER).read_text(encoding="utf-8").splitlines(keepends=True)
        if json.loads(first) != {"key": key.name}:
            return None
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return [
            (tuple(KnownSecret(**secret) for secret in entry["found"]), tuple(entry["replaced"])) for entry in entries
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None

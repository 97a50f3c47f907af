"""The file of change rows, searched once more at its end for every secret that was found in any batch of it.

Beside the rows stands, for each batch, which secrets were found in it and which were found elsewhere and replaced in it, as
keyed digests. So a batch can be kept in a dataset that grew, and nothing has to be mined again to know what it taught.
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
    """Rows of whole commits, the secrets found in them, and the digests of those that only other batches gave away."""

    rows: pa.RecordBatch
    found: tuple[KnownSecret, ...] = ()
    replaced: tuple[str, ...] = ()


def write_rows(
    ready: Path, kept: Iterable[Batch], mined: Iterable[MinedBatch], known: KnownSecrets, fingerprint: str
) -> Dataset:
    """Write the batches of a dataset, then replace in each what was found secret in another.

    Args:
        ready: the folder to fill.
        kept: the first batches, as an earlier dataset holds them.
        mined: the others.
        known: secrets that were found elsewhere before; their key is the digests'.
        fingerprint: of the dataset.
    """
    ledger = list[Batch]()

    def written() -> Iterator[pa.RecordBatch]:
        with (ready / LEDGER).open("w", encoding="utf-8") as file:
            file.write(json.dumps({"key": known.key.name}) + "\n")
            for batch in _batches(kept, mined, known.key):
                file.write(_line(batch))
                file.flush()
                ledger.append(Batch(_NO_ROWS, batch.found, batch.replaced))
                yield batch.rows

    dataset = cache.write_dataset(ready / ROWS, written(), FEATURES, fingerprint)
    everything = KnownSecrets.of(known.key, [*known.secrets, *(secret for batch in ledger for secret in batch.found)])
    if not any(_holds(rows, everything) for rows in cache.read_batches(ready / ROWS)):
        return dataset
    cleaned = list[Batch]()

    def again() -> Iterator[pa.RecordBatch]:
        for rows, batch in zip(cache.read_batches(ready / ROWS), ledger, strict=True):
            clean, replaced = without_known(rows, everything)
            cleaned.append(Batch(_NO_ROWS, batch.found, (*batch.replaced, *replaced)))
            yield clean

    cache.write_dataset(ready / "clean", again(), FEATURES, fingerprint)
    (ready / LEDGER).unlink()  # an interrupted build must not be taken for one that replaced nothing
    cache.remove(ready / ROWS)
    (ready / "clean").rename(ready / ROWS)
    lines = [json.dumps({"key": known.key.name}) + "\n", *map(_line, cleaned)]
    (ready / LEDGER).write_text("".join(lines), encoding="utf-8")
    return Dataset.load_from_disk(str(ready / ROWS))


def read_rows(folder: Path, key: Key) -> Iterator[Batch]:
    """The batches of a dataset, finished or not, with what was written of them beside.

    Nothing if the digests are of another key: what they stand for could not be found.

    Raises:
        OSError, pyarrow.ArrowInvalid: it is unfinished or damaged, after the batches that are whole.
    """
    found = _ledger(folder, key)
    if found is not None:
        for rows, (secrets, replaced) in zip(cache.read_batches(folder / ROWS), found, strict=False):
            yield Batch(rows, secrets, replaced)


def known_secrets(folder: Path, key: Key, origin: str) -> KnownSecrets | None:
    """The secrets that were found in a dataset, or None if the digests are of another key."""
    found = _ledger(folder, key)
    return None if found is None else KnownSecrets.of(key, (one for secrets, _ in found for one in secrets), origin)


def without_known(rows: pa.RecordBatch, known: KnownSecrets) -> tuple[pa.RecordBatch, tuple[str, ...]]:
    """The rows with what is known to be secret replaced, and the digests of that."""
    if not _holds(rows, known):
        return rows, ()
    columns = {name: rows.column(name).to_pylist() for name in (*TEXTS, "commit", "redactions")}
    replaced: set[int] = set()
    for row, commit in enumerate(columns["commit"]):
        first = row == 0 or columns["commit"][row - 1] != commit
        counted: list[int] = []  # in the order in which one after the other would be replaced
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
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(columns[name], rows.schema.field(at).type))
    return rows, tuple(known.secrets[rank].digest for rank in sorted(replaced))


def _batches(kept: Iterable[Batch], mined: Iterable[MinedBatch], key: Key) -> Iterator[Batch]:
    yield from kept
    for batch in mined:
        yield Batch(batch.rows, tuple(map(key.known, batch.secrets)))


def _holds(rows: pa.RecordBatch, known: KnownSecrets) -> bool:
    """Whether a secret stands in one of the columns, each searched as one text."""
    columns = (rows.column(name).buffers()[2] for name in TEXTS)
    return any(known.stand_in(memoryview(column)) for column in columns if column is not None)


def _line(batch: Batch) -> str:
    return json.dumps({"found": [asdict(secret) for secret in batch.found], "replaced": batch.replaced}) + "\n"


def _ledger(folder: Path, key: Key) -> list[tuple[tuple[KnownSecret, ...], tuple[str, ...]]] | None:
    """What stands beside the batches; of an unfinished file the whole lines."""
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

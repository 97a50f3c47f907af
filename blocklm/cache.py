"""Stores datasets in folders by key: a key covers everything that shaped the data, and a folder is complete or absent.

A complete folder is never changed, so readers need no lock. Builders take turns.
"""

import gc
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, DatasetInfo, Features, Split, load_from_disk
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

DAMAGED = (OSError, ValueError, KeyError, pa.ArrowException)
BUILDING = ".building-"
ARROW_FILE = "data-00000-of-00001.arrow"
ROWS_PER_BATCH = 1000


@dataclass(frozen=True)
class Stored:
    """The content of a folder of the cache.

    Attributes:
        dataset: a Dataset or DatasetDict.
        report: the report of the build.
        cache: `built` if this call built the folder, `hit` if it was there.
    """

    dataset: Any
    report: dict[str, Any]
    cache: str = "hit"


def data_key(*sources: str, **settings: Any) -> str:
    """Hash the settings and the source code that turns them into data.

    Because the code is hashed, data is built again after an upgrade, and rows of older rules are never read.

    Args:
        sources: dotted names of BlockLM's packages (with all their files) or modules, such as `mining`.
        settings: all other values that determine the data; they must be valid JSON.
    """
    return sha256((json.dumps(settings, sort_keys=True) + "".join(map(_code, sources))).encode()).hexdigest()[:16]


@lru_cache
def _code(source: str) -> str:
    """Read the source code of a package or module."""
    path = Path(__file__).parent / source.replace(".", "/")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return "".join(file.read_text(encoding="utf-8") for file in files)


def read(folder: Path, is_current: Callable[[dict[str, Any]], bool] = lambda _: True) -> Stored | None:
    """Read the dataset and report in `folder`; return None if it is absent, damaged or, by its report, not current."""
    if not folder.is_dir():
        return None
    try:
        report = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        return Stored(load_from_disk(str(folder / "data")), report) if is_current(report) else None
    except DAMAGED as error:
        logger.warning("the cached corpus %s is damaged (%s): building it again", folder, error)
        return None


@contextmanager
def builder_lock(folder: Path) -> Iterator[None]:
    """Wait until no other process builds a folder beside `folder`, and keep others from it within this context."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("waiting for another process that builds in %s", folder.parent)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def publish(folder: Path, owner: str = "") -> Iterator[Path]:
    """Yield a new folder to fill, and rename it to `folder` at the end of the context.

    After an error it is deleted. After Ctrl-C or a kill it stays for `find_unfinished`, until the next publication of
    the same owner.

    Args:
        folder: folder to publish.
        owner: whose folder it is, where several that share the parent folder may leave unfinished ones of use.
    """
    mark = sha256(owner.encode()).hexdigest()[:8]
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{BUILDING}{folder.name}-{mark}-"))
    ready = building / "ready"
    ready.mkdir()
    gc.freeze()  # present objects, such as modules: searching them for garbage would take a tenth of the time
    try:
        yield ready
    except Exception:
        remove(building)
        raise
    finally:
        gc.unfreeze()
    if folder.exists():  # it is damaged, or was built while an object of the repository was missing
        folder.rename(building / "replaced")
    ready.rename(folder)
    for left in folder.parent.glob(f"{BUILDING}*-{mark}-*"):
        remove(left)


def read_or_build(
    folder: Path,
    build: Callable[[Path], dict[str, Any]],
    is_current: Callable[[dict[str, Any]], bool] = lambda _: True,
) -> Stored:
    """Read the dataset in `folder` and its report, or build them.

    Args:
        folder: folder of the dataset.
        build: function that writes the dataset to `data` in the folder that it is given, and returns the report.
        is_current: whether the dataset with a report would not become another one if it were built now; default: yes.
    """
    stored = read(folder, is_current)
    if stored is None:
        with builder_lock(folder):
            stored = read(folder, is_current)  # another process may have built it while this one waited
            if stored is None:
                with publish(folder) as ready:
                    write_report(ready, build(ready))
                built = read(folder)
                assert built is not None, "it was published above"
                stored = replace(built, cache="built")
    return stored


def find_unfinished(folder: Path) -> list[Path]:
    """Find what interrupted builds have written for folders named like `folder`, up to the last dash of the name."""
    return sorted(folder.parent.glob(f"{BUILDING}{folder.name.rpartition('-')[0]}-*/ready"))


def remove(folder: Path) -> None:
    """Delete a folder; a process that has a dataset in it open keeps its mapped files."""
    shutil.rmtree(folder, ignore_errors=True)


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write the report as `corpus.json` beside the data."""
    (folder / "corpus.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_arrow(path: Path, batches: Iterable[pa.RecordBatch], features: Features) -> Dataset:
    """Stream `batches` to an Arrow file; memory holds one of them at a time."""
    schema = features.arrow_schema
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return Dataset.from_file(str(path), info=DatasetInfo(features=features))


def write_dataset(folder: Path, batches: Iterable[pa.RecordBatch], features: Features, fingerprint: str) -> Dataset:
    """Stream `batches` into the layout of `Dataset.save_to_disk`, which itself would write everything twice."""
    folder.mkdir()
    dataset = write_arrow(folder / ARROW_FILE, batches, features)
    _describe(folder, features, fingerprint)
    return dataset


def write_splits(
    folder: Path, rows: Iterable[tuple[str, Sequence[Any]]], features: Features, names: Sequence[str], fingerprint: str
) -> DatasetDict:
    """Stream rows, each with the name of its split and its column values, into the layout of a `DatasetDict`."""
    schema = features.arrow_schema
    waiting: dict[str, list[Sequence[Any]]] = {name: [] for name in names}
    with ExitStack() as open_files:
        writers = {}
        for name in names:
            (folder / name).mkdir(parents=True)
            sink = open_files.enter_context(pa.OSFile(str(folder / name / ARROW_FILE), "wb"))
            writers[name] = open_files.enter_context(pa.ipc.new_stream(sink, schema))
        for name, row in rows:
            waiting[name].append(row)
            if len(waiting[name]) == ROWS_PER_BATCH:
                writers[name].write_batch(record_batch(waiting[name], schema))
                waiting[name] = []
        for name, left in waiting.items():
            if left:
                writers[name].write_batch(record_batch(left, schema))
    return _load_splits(folder, features, names, fingerprint)


def write_split_batches(
    folder: Path, batches: Mapping[str, Iterable[pa.RecordBatch]], features: Features, fingerprint: str
) -> DatasetDict:
    """Stream the batches of each split, one split after the other, into the layout of a `DatasetDict`."""
    for name, own in batches.items():
        (folder / name).mkdir(parents=True)
        write_arrow(folder / name / ARROW_FILE, own, features)
    return _load_splits(folder, features, list(batches), fingerprint)


def _load_splits(folder: Path, features: Features, names: Sequence[str], fingerprint: str) -> DatasetDict:
    for name in names:
        _describe(folder / name, features, f"{fingerprint}-{name}", name)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(names)}), encoding="utf-8")
    return load_from_disk(str(folder))


def record_batch(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Build a batch from rows, each with the values of its columns."""
    columns = zip(*rows, strict=True)
    return pa.record_batch([pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)


def _describe(folder: Path, features: Features, fingerprint: str, split: str = str(Split.TRAIN)) -> None:
    """Write the files that `load_from_disk` reads beside the data."""
    state: dict[str, Any] = {
        "_data_files": [{"filename": ARROW_FILE}],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    DatasetInfo(features=features).write_to_directory(str(folder))


def read_batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield the memory-mapped batches of a folder that `write_dataset` filled.

    Raises:
        OSError, pyarrow.ArrowInvalid: the file is unfinished or damaged; raised after all complete batches.
    """
    with pa.memory_map(str(folder / ARROW_FILE)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader

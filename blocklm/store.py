"""Datasets in keyed folders: a key covers everything that shaped the data, and a folder appears whole or not at all."""

import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features, disable_progress_bars, load_from_disk

logger = logging.getLogger(__name__)

DAMAGED = (OSError, ValueError, KeyError, pa.ArrowException)
Stored = tuple[Any, dict[str, Any]]  # a Dataset or DatasetDict, and its report


def data_key(*modules: ModuleType, **settings: Any) -> str:
    """A short hash of the settings and of the source code that turns them into data.

    Hashing the code costs a rebuild after an upgrade and can never serve rows of older rules.
    """
    code = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)
    return sha256((json.dumps(settings, sort_keys=True) + code).encode()).hexdigest()[:16]


def read(folder: Path) -> Stored | None:
    """The dataset and report in `folder`; None if it is absent, or damaged and therefore to be built again."""
    if not folder.is_dir():
        return None
    try:
        report = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        dataset = load_from_disk(str(folder / "data"))
    except DAMAGED as error:
        logger.warning("the cached corpus %s is damaged (%s): building it again", folder, error)
        return None
    logger.info("corpus cache hit: %s was built from the same head, settings and rules", folder)
    return dataset, report


def write(
    folder: Path, rows: Iterator[dict[str, Any]], features: Features, finish: Callable[[Dataset], Stored]
) -> Stored:
    """Stream `rows` to Arrow, let `finish` arrange and describe them, and put the result at `folder` by renaming.

    A kill at any moment leaves the old state or the new one, never half. Memory does not grow with the rows.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    disable_progress_bars()  # ours count commits and stand on the same line
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".building-", ignore_cleanup_errors=True) as temporary:
        building = Path(temporary)
        streamed = Dataset.from_generator(
            lambda: rows, features=features, cache_dir=str(building / "cache"), fingerprint=folder.name
        )
        dataset, report = finish(streamed)
        ready = building / "ready"
        dataset.save_to_disk(str(ready / "data"))
        (ready / "corpus.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(building / "replaced")
        ready.rename(folder)
    return load_from_disk(str(folder / "data")), report


def divide(dataset: Dataset, parts: list[str], names: tuple[str, ...]) -> DatasetDict:
    """Split rows by the part each belongs to, keeping their order."""
    return DatasetDict({name: dataset.select([at for at, part in enumerate(parts) if part == name]) for name in names})

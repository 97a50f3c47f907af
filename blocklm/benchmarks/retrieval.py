"""Measures how well commits are found by their own subjects, and time and memory of a search by size and store.

The index holds no messages, so that a subject cannot find itself. A subject still shares words with its change, which a
person's question may not.
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from blocklm.config.retrieval import EMBEDDED, NO_MODEL, RetrievalArguments
from blocklm.git.repository import open_repository
from blocklm.mining.changes import Changes, Rules, load_changes
from blocklm.mining.filters import FilterLimits
from blocklm.mining.messages import says_something
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.embedder import Embedder
from blocklm.retrieval.index import change_index
from blocklm.retrieval.qdrant_store import QdrantVectors
from blocklm.retrieval.search import Index
from blocklm.retrieval.vector_store import FileVectors, StoreInfo, Vectors

QUESTIONS, TIMED = 300, 100
SIZES = (1_000, 10_000, 100_000)
MOST_IN_QDRANT = 10_000  # embedded in this process, it writes each point singly
RULES = Rules(FilterLimits(max_changed_lines=1000))


def retrieval_table(paths: Sequence[Path], _: int) -> Iterator[str]:
    """Yield the lines of both tables: first each repository, then sizes made of all their changes."""
    found = []
    for path in paths:
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            changes = load_changes(open_repository(path, path), RULES, Path(folder))
            yield f"{path.resolve().name} at {changes.report['repository']['head'][:12]}"
            yield from _quality(changes, Path(folder))
            index = change_index(changes, RetrievalArguments(embedding_model=NO_MODEL), Path(folder))
            found.append(Dataset.from_dict(index.documents.to_dict(), features=index.documents.features))
    yield from _sizes(concatenate_datasets(found))


def _quality(changes: Changes, folder: Path) -> Iterator[str]:
    started, cpu = time.perf_counter(), time.process_time()
    words = change_index(changes, RetrievalArguments(embedding_model=NO_MODEL), folder, messages=False)
    count, seconds = len(words.documents), time.perf_counter() - started
    yield f"  {count} changes: {count / seconds:,.0f} a second into words"
    started, cpu = time.perf_counter(), time.process_time()
    both = change_index(changes, RetrievalArguments(), folder, messages=False)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    yield f"  {'':10s} {count / seconds:,.1f} a second embedded, {count / cpu:,.1f} a second of CPU"
    asked = _subjects(both.documents)
    ranks: dict[str, list[int]] = {}
    for commit, subject in asked:
        for name, ranking in both.rankings(subject).items():
            ranks.setdefault(name, []).append(ranking.index(commit) + 1 if commit in ranking else 0)
    for name, some in ranks.items():
        hits = "  ".join(f"hit@{k} {np.mean([0 < rank <= k for rank in some]):.3f}" for k in (1, 5, 10))
        yield f"  {name:10s} {hits}  MRR {np.mean([1 / rank if rank else 0 for rank in some]):.3f}"
    yield f"  of {len(asked)} subjects among {len(set(both.documents['group'][:]))} commits"


def _subjects(documents: Dataset) -> list[tuple[str, str]]:
    """Choose commits with their subjects, if the subject is informative and unique."""
    subjects = dict(zip(documents["commit"][:], documents["subject"][:], strict=True))
    times = Counter(subjects.values())
    usable = [(commit, text) for commit, text in subjects.items() if times[text] == 1 and says_something(text)]
    return random.Random(0).sample(usable, min(QUESTIONS, len(usable)))


def _sizes(documents: Dataset) -> Iterator[str]:
    embedder = Embedder(EMBEDDED)
    questions = [subject for _, subject in _subjects(documents)][:TIMED]
    yield "changes, each a vector of chance; questions are embedded"
    for size in SIZES:
        rows = documents.select([at % len(documents) for at in range(size)])
        names = [f"{at:032x}" for at in range(size)]
        rows = rows.remove_columns("id").add_column("id", names)
        drawn = np.random.default_rng(0).normal(size=(size, embedder.dimension)).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        started = time.perf_counter()
        words = WordIndex.build(rows["searched"])
        seconds = time.perf_counter() - started
        held = [words.nbytes, drawn.nbytes]
        mebibytes = " and ".join(f"{size / 2**20:.0f}" for size in held)
        yield f"  {size:7,d}: words in {seconds:.1f} s, {size / seconds:,.0f} a second; words and vectors {mebibytes} MiB"
        with tempfile.TemporaryDirectory(prefix="blocklm-benchmark-") as folder:
            stores: list[tuple[str, Vectors]] = [("files", FileVectors(Path(folder) / "files"))]
            if size <= MOST_IN_QDRANT:
                stores.append(("Qdrant", QdrantVectors("benchmark", Path(folder) / "qdrant")))
            for name, vectors in stores:
                started = time.perf_counter()
                vectors.write_info(StoreInfo(EMBEDDED, embedder.dimension, "head"))
                vectors.add(names, drawn)
                kept = time.perf_counter() - started
                times = _times(Index(rows, words, (vectors, embedder)), questions)
                yield f"           {name:6s} kept in {kept:6.1f} s, a question takes {times[0]:.0f} ms (p95 {times[1]:.0f})"


def _times(index: Index, questions: Sequence[str]) -> tuple[float, float]:
    """Measure median and 95th percentile of a search in milliseconds, after a first one that loads the index."""
    index.search(questions[0], 10)
    taken = []
    for question in questions:
        started = time.perf_counter()
        index.search(question, 10)
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.percentile(taken, 50)), float(np.percentile(taken, 95))

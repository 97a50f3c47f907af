"""Opens the index of a history: builds it, extends it for new commits, or refuses one of another history.

Documents and words are in `corpus_dir/NAME/search/KIND` and are written again for each head, a few thousand a second.
Embeddings take most of the time: each is computed once for the same text, and stored at once in a store beside that
folder.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from tqdm.auto import tqdm

from blocklm import cache
from blocklm.config.recipe import Recipe
from blocklm.config.retrieval import NO_MODEL, RetrievalArguments
from blocklm.corpus.curation import curate
from blocklm.errors import UserError
from blocklm.git.repository import Repository
from blocklm.mining.changes import Changes
from blocklm.mining.filters import FilterLimits
from blocklm.mining.snapshot import files_at
from blocklm.retrieval import documents
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.search import Index
from blocklm.retrieval.vector_store import FileVectors, StoreInfo, Vectors

if TYPE_CHECKING:
    from blocklm.retrieval.embedder import Embedder

TEXTS_PER_WRITE = 512  # texts embedded between two writes to the store
REBUILD_HINT = "rebuild it with `--rebuild` of scripts/search.py"

logger = logging.getLogger(__name__)


def change_index(
    changes: Changes, keys: RetrievalArguments, corpus_dir: Path, rebuild: bool = False, messages: bool = True
) -> Index:
    """Open the index of all kept changes.

    Args:
        changes: the mined history.
        keys: recipe keys of the embedding model and the store.
        corpus_dir: folder of cached corpora.
        rebuild: whether to delete an existing index first; default: no.
        messages: whether commit messages are searched too; default: yes.

    Raises:
        UserError: the stored index has another model, dimension or history, the model is missing, or the store fails.
    """
    kind = "changes" if messages else "changes-without-messages"

    def build() -> Iterable[pa.RecordBatch]:
        return documents.change_documents(changes.dataset, messages)

    return _open(_IndexLocation(changes, keys, corpus_dir, kind), build, keys, rebuild)


def file_index(
    repositories: Sequence[Repository],
    changes: Changes,
    limits: FilterLimits,
    keys: RetrievalArguments,
    corpus_dir: Path,
    rebuild: bool = False,
) -> Index:
    """Open the index of the files at the head of each repository.

    Args:
        repositories: repositories with the files.
        changes: their mined history.
        limits: limits on the size of a file.
        keys: recipe keys of the embedding model and the store.
        corpus_dir: folder of cached corpora.
        rebuild: whether to delete an existing index first; default: no.

    Raises:
        UserError: the stored index has another model, dimension or history, the model is missing, or the store fails.
    """
    heads = {repository.name: repository.head for repository in repositories}
    files = files_at(repositories, heads, limits, corpus_dir, changes.known)

    def build() -> Iterable[pa.RecordBatch]:
        return documents.file_documents(files)

    return _open(_IndexLocation(changes, keys, corpus_dir, "files", files._fingerprint), build, keys, rebuild)


class _IndexLocation:
    """Folder and key of an index, and the history that it must belong to; an index of files depends on them too."""

    def __init__(
        self, changes: Changes, keys: RetrievalArguments, corpus_dir: Path, kind: str, files: str | None = None
    ) -> None:
        repository = changes.report["repository"]
        self.kind, self.head = kind, str(repository["head"])
        # A folder of its own has a lock of its own, which matters because embedding takes long.
        self.folder = corpus_dir / repository["name"][:100] / "search" / kind
        settings = {"changes": changes.report["key"], "kind": kind, "files": files}
        self.key = cache.data_key("mining", "retrieval", "cache", **settings)
        self._commits = changes.dataset.data.table["commit"]
        self._keys, self._name = keys, f"blocklm-{repository['name'][:100]}-{kind}"

    def vectors(self) -> Vectors:
        """Open the store that the recipe names."""
        beside = self.folder.with_name(f"{self.folder.name}-vectors")
        if self._keys.qdrant_url is not None or self._keys.vector_store == "qdrant":
            from blocklm.retrieval.qdrant_store import QdrantVectors  # heavy

            return QdrantVectors(self._name, beside.with_name(f"{beside.name}-qdrant"), self._keys.qdrant_url)
        return FileVectors(beside)

    def check(self, vectors: Vectors, embedder: "Embedder") -> None:
        """Refuse a store that was filled by another model or from another history.

        Raises:
            UserError: the store has another model, dimension or history.
        """
        info = vectors.read_info()
        if info is None:
            return
        if (info.model, info.dimension) != (embedder.name, embedder.dimension):
            raise UserError(
                f"the index in {vectors.place} holds embeddings of `{info.model}` ({info.dimension} numbers each), "
                f"not of `{embedder.name}` ({embedder.dimension})",
                f"give `--embedding_model {info.model}`, or {REBUILD_HINT}",
            )
        heads = set(info.head.split("+")) - set(self.head.split("+"))
        if heads - set(pc.unique(self._commits).to_pylist()):
            raise UserError(
                f"the index in {vectors.place} was made at {info.head[:12]}, which is not in the history of "
                f"{self.head[:12]}",
                f"`git pull` if this clone is behind; after a force-push, or for another branch, {REBUILD_HINT}",
            )


def _open(
    location: _IndexLocation, build: Callable[[], Iterable[pa.RecordBatch]], keys: RetrievalArguments, rebuild: bool
) -> Index:
    embedder = None if keys.embedding_model == NO_MODEL else _load_embedder(keys.embedding_model)
    vectors = None if embedder is None else location.vectors()
    with cache.builder_lock(location.folder):
        if rebuild:
            cache.remove(location.folder)
            if vectors is not None:
                vectors.clear()
        elif vectors is not None and embedder is not None:
            location.check(vectors, embedder)
        dataset, words = _documents(location, build)
        if embedder is None or vectors is None:
            return Index(dataset, words, None)
        vectors.write_info(StoreInfo(embedder.name, embedder.dimension, location.head))
        _embed(dataset, vectors, embedder, location.kind)
    return Index(dataset, words, (vectors, embedder))


def _load_embedder(name: str) -> "Embedder":
    from blocklm.retrieval.embedder import Embedder  # torch, which a search by BM25 alone does without

    return Embedder(name)


def _documents(location: _IndexLocation, build: Callable[[], Iterable[pa.RecordBatch]]) -> tuple[Dataset, WordIndex]:
    """Read the documents of this head and their words, or write them first."""
    stored = _read(location)
    if stored is None:
        with cache.publish(location.folder) as folder:
            dataset = cache.write_dataset(folder / "data", build(), documents.FEATURES, fingerprint=location.key)
            if not len(dataset):
                raise UserError(
                    f"there are no {location.kind} to search", "run scripts/mine.py to see what was dropped, and why"
                )
            texts = tqdm(dataset["searched"], f"indexing words of {location.kind}", unit=" documents", disable=None)
            WordIndex.build(texts).save(folder / "words")
            cache.write_report(folder, {"key": location.key, "head": location.head, "documents": len(dataset)})
        stored = _read(location)
    assert stored is not None, "it was published above"
    return stored


def _read(location: _IndexLocation) -> tuple[Dataset, WordIndex] | None:
    """Read the stored documents and words; None if they are missing, damaged or of another head."""
    stored = cache.read(location.folder)
    if stored is None or stored.report["key"] != location.key:
        return None
    try:
        return stored.dataset, WordIndex.load(location.folder / "words", len(stored.dataset))
    except cache.DAMAGED as error:
        logger.warning("the index in %s is damaged (%s): building it again", location.folder, error)
        return None


def _embed(dataset: Dataset, vectors: Vectors, embedder: "Embedder", kind: str) -> None:
    """Embed the documents that the store lacks."""
    known = vectors.known()
    new = {name: row for row, name in enumerate(dataset["id"][:]) if name not in known}
    names = list(new)
    with tqdm(total=len(names), desc=f"embedding {kind}", unit=" documents", disable=None if names else True) as bar:
        for start in range(0, len(names), TEXTS_PER_WRITE):
            batch = names[start : start + TEXTS_PER_WRITE]
            texts = dataset.select([new[name] for name in batch])["searched"][:]
            vectors.add(batch, embedder.embed(texts))
            bar.update(len(batch))
    if names:
        logger.info("%s: %d of %d embedded now, in %s", kind, len(names), len(dataset), vectors.place)


def searched_commits(changes: Changes, recipe: Recipe) -> frozenset[str] | None:
    """Return the ids of the commits that may be searched: those of the training split, or None for all.

    Raises:
        UserError: the history is too short to be split.
    """
    if recipe.retrieval.search_history == "all":
        return None
    verdicts = curate(changes, recipe.mining).verdicts.data.table
    rows = pc.unique(verdicts.filter(pc.equal(verdicts["split"], "train"))["row"])
    return frozenset(changes.dataset.data.table["commit"].take(rows).to_pylist())

"""Opens the index of a history: builds it, extends it for new commits, or refuses one of another history.

Documents and words stand in `corpus_dir/NAME/search/KIND` and are written anew for each head, a few thousand a second.
Embeddings take most of the time: each is kept as soon as it is made, in a store beside it, and made once for the same
text.
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

EMBEDDED_AT_ONCE = 512  # between two writes
AGAIN = "`--rebuild` of scripts/search.py makes it anew"

logger = logging.getLogger(__name__)


def change_index(
    changes: Changes, keys: RetrievalArguments, corpus_dir: Path, rebuild: bool = False, messages: bool = True
) -> Index:
    """The index of all changes that the rules keep.

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

    return _open(_Place(changes, keys, corpus_dir, kind), build, keys, rebuild)


def file_index(
    repositories: Sequence[Repository],
    changes: Changes,
    limits: FilterLimits,
    keys: RetrievalArguments,
    corpus_dir: Path,
    rebuild: bool = False,
) -> Index:
    """The index of the files at the head of each repository, as `change_index` says."""
    heads = {repository.name: repository.head for repository in repositories}
    files = files_at(repositories, heads, limits, corpus_dir, changes.known)

    def build() -> Iterable[pa.RecordBatch]:
        return documents.file_documents(files)

    return _open(_Place(changes, keys, corpus_dir, "files"), build, keys, rebuild)


class _Place:
    """Folder and key of an index, and the history that it must belong to."""

    def __init__(self, changes: Changes, keys: RetrievalArguments, corpus_dir: Path, kind: str) -> None:
        about = changes.report["repository"]
        self.kind, self.head = kind, str(about["head"])
        self.folder = corpus_dir / about["name"][:100] / "search" / kind  # whose lock is its own: embedding takes long
        self.key = cache.data_key("mining", "retrieval", "cache", changes=changes.report["key"], kind=kind)
        self._commits = changes.dataset.data.table["commit"]
        self._keys, self._name = keys, f"blocklm-{about['name'][:100]}-{kind}"

    def vectors(self) -> Vectors:
        """The store that the recipe names."""
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
        made = vectors.made()
        if made is None:
            return
        if (made.model, made.dimension) != (embedder.name, embedder.dimension):
            raise UserError(
                f"the index in {vectors.place} holds embeddings of `{made.model}` ({made.dimension} numbers each), "
                f"not of `{embedder.name}` ({embedder.dimension})",
                f"give `--embedding_model {made.model}`, or {AGAIN}",
            )
        heads = set(made.head.split("+")) - set(self.head.split("+"))
        if heads - set(pc.unique(self._commits).to_pylist()):
            raise UserError(
                f"the index in {vectors.place} was made at {made.head[:12]}, which is not in the history of "
                f"{self.head[:12]}",
                f"`git pull` if this clone is behind; after a force-push, or for another branch, {AGAIN}",
            )


def _open(
    place: _Place, build: Callable[[], Iterable[pa.RecordBatch]], keys: RetrievalArguments, rebuild: bool
) -> Index:
    embedder = None if keys.embedding_model == NO_MODEL else _load_embedder(keys.embedding_model)
    vectors = None if embedder is None else place.vectors()
    with cache.turn(place.folder):
        if rebuild:
            cache.remove(place.folder)
            if vectors is not None:
                vectors.clear()
        elif vectors is not None and embedder is not None:
            place.check(vectors, embedder)
        found, words = _documents(place, build)
        if embedder is None or vectors is None:
            return Index(found, words, None)
        vectors.begin(StoreInfo(embedder.name, embedder.dimension, place.head))
        _embed(found, vectors, embedder, place.kind)
    return Index(found, words, (vectors, embedder))


def _load_embedder(name: str) -> "Embedder":
    from blocklm.retrieval.embedder import Embedder  # torch, which a search by BM25 alone does without

    return Embedder(name)


def _documents(place: _Place, build: Callable[[], Iterable[pa.RecordBatch]]) -> tuple[Dataset, WordIndex]:
    """The documents of this head and their words, as they stand or written now."""
    found = _read(place)
    if found is None:
        with cache.publish(place.folder) as ready:
            made = cache.write_dataset(ready / "data", build(), documents.FEATURES, fingerprint=place.key)
            if not len(made):
                raise UserError(
                    f"there are no {place.kind} to search", "scripts/mine.py says what was dropped, and why"
                )
            texts = tqdm(made["searched"], f"indexing words of {place.kind}", unit=" documents", disable=None)
            WordIndex.build(texts).save(ready / "words")
            cache.write_report(ready, {"key": place.key, "head": place.head, "documents": len(made)})
        found = _read(place)
    assert found is not None, "it was published above"
    return found


def _read(place: _Place) -> tuple[Dataset, WordIndex] | None:
    """The stored documents and words; None if they are missing, damaged or of another head."""
    stored = cache.read(place.folder)
    if stored is None or stored[1]["key"] != place.key:
        return None
    try:
        return stored[0], WordIndex.load(place.folder / "words", len(stored[0]))
    except cache.DAMAGED as error:
        logger.warning("the index in %s is damaged (%s): building it again", place.folder, error)
        return None


def _embed(found: Dataset, vectors: Vectors, embedder: "Embedder", kind: str) -> None:
    """Embed the documents that the store lacks."""
    known = vectors.known()
    new = {name: at for at, name in enumerate(found["id"][:]) if name not in known}
    names = list(new)
    with tqdm(total=len(names), desc=f"embedding {kind}", unit=" documents", disable=None if names else True) as bar:
        for start in range(0, len(names), EMBEDDED_AT_ONCE):
            some = names[start : start + EMBEDDED_AT_ONCE]
            texts = found.select([new[name] for name in some])["searched"][:]
            vectors.add(some, embedder.embed(texts))
            bar.update(len(some))
    if names:
        logger.info("%s: %d of %d embedded now, in %s", kind, len(names), len(found), vectors.place)


def searched_commits(changes: Changes, recipe: Recipe) -> frozenset[str] | None:
    """The commits that a recipe lets be searched: those that a run may learn from, or None for all.

    Raises:
        UserError: the history is too short to be split.
    """
    if recipe.retrieval.search_history == "all":
        return None
    verdicts = curate(changes, recipe.mining).verdicts.data.table
    rows = pc.unique(verdicts.filter(pc.equal(verdicts["split"], "train"))["row"])
    return frozenset(changes.dataset.data.table["commit"].take(rows).to_pylist())

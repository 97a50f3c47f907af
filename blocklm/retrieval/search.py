"""Searches the changes or files of a history by BM25 and embeddings, fused by reciprocal rank.

BM25 (Robertson and Zaragoza 2009) finds the words, over the parts of identifiers; embeddings find the meaning. Each
ranks commits (or files) by their best document, and the two rankings are fused (Cormack, Clarke and Büttcher 2009).
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import zip_longest
from typing import Protocol, TypeVar

import numpy as np
from datasets import Dataset

from blocklm.retrieval.bm25 import WordIndex, terms
from blocklm.retrieval.vector_store import Vectors

# The paper's 60 hardly tells the first rank from the tenth; 10 found more on two repositories and on two others
# (docs/retrieval.md).
RANK_CONSTANT = 10
CANDIDATES = 100  # most groups of each ranking
# The hits of questions that have nothing to do with the history stay below both (docs/retrieval.md).
MIN_WORDS, MIN_COSINE = 0.5, 0.45
LINES_SHOWN, LINE_CHARS = 4, 120
Name = TypeVar("Name", bound=Hashable)
Ranking = dict[int, float]  # the best document of each group and its score, the best first


class Embeds(Protocol):
    """An object that embeds texts, such as `embedder.Embedder`."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts as an array with a row of length one for each text."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A commit or a file that was found, with its best document.

    `words` is the share of the question's words that the document has, weighted by rarity. `cosine` is the similarity
    of its embedding to the question's; None without embeddings, or if it is not among the nearest.
    """

    repo: str
    commit: str
    seq: int
    day: date
    subject: str
    path: str
    line: int
    text: str
    score: float
    words: float
    cosine: float | None


class Index:
    """Documents that can be searched.

    Args:
        documents: dataset with the columns `documents.FEATURES`.
        words: BM25 index of the documents.
        vectors: embeddings of the documents, and the model that embeds a question; None for BM25 alone.
    """

    def __init__(self, documents: Dataset, words: WordIndex, vectors: tuple[Vectors, Embeds] | None) -> None:
        self.documents, self._words, self._vectors = documents, words, vectors
        self._groups: list[str] = documents["group"][:]

    def search(
        self, question: str, count: int, within: Collection[str] | None = None, before: int | None = None
    ) -> list[Hit]:
        """Return the best hits, the best first.

        Args:
            question: text or code to search for.
            count: most commits (or files) to return.
            within: ids of the commits to search; default: all.
            before: upper bound of `seq`, exclusive, of the commits to search; default: none.
        """
        rankings = self._rankings(question, self._allowed_mask(within, before))
        fused = fuse([[self._groups[row] for row in ranking] for ranking in rankings])
        cosines = rankings[1] if len(rankings) > 1 else {}
        best: dict[str, int] = {}
        for rows in zip_longest(*rankings):
            for row in rows:
                if row is not None:
                    best.setdefault(self._groups[row], row)
        rarity = {word: self._words.rarity(word) for word in set(terms(question))}
        return [self._hit(best[group], score, rarity, cosines) for group, score in list(fused.items())[:count]]

    def rankings(self, question: str) -> dict[str, list[str]]:
        """Rank commits (or files) by words, by meaning, and by both, the best first."""
        groups = [[self._groups[row] for row in ranking] for ranking in self._rankings(question, None)]
        return dict(zip(("words", "meaning"), groups, strict=False)) | {"both": list(fuse(groups))}

    def _rankings(self, question: str, allowed: np.ndarray | None) -> list[Ranking]:
        by_words = self._rank_by_words(question, allowed)
        if self._vectors is None:
            return [by_words]
        return [by_words, self._rank_by_meaning(question, allowed, *self._vectors)]

    def _allowed_mask(self, within: Collection[str] | None, before: int | None) -> np.ndarray | None:
        """Return a mask of the documents that may be found; None for all."""
        if within is None and before is None:
            return None
        commits, seqs = self._commits_and_seqs
        allowed = np.ones(len(seqs), bool) if before is None else seqs < before
        return allowed if within is None else allowed & np.fromiter((sha in within for sha in commits), bool)

    @cached_property
    def _commits_and_seqs(self) -> tuple[list[str], np.ndarray]:
        return self.documents["commit"][:], np.array(self.documents["seq"][:], np.int64)

    @cached_property
    def _rows_by_id(self) -> dict[str, list[int]]:
        """The rows of each document id, which are several if commits share a text."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.documents["id"][:]):
            rows.setdefault(name, []).append(row)
        return rows

    def _rank_by_words(self, question: str, allowed: np.ndarray | None) -> Ranking:
        scores = self._words.scores(question, allowed)
        order = np.argsort(-scores, kind="stable")
        return self._best_of_groups((int(row), float(scores[row])) for row in order if scores[row] > 0)

    def _rank_by_meaning(
        self, question: str, allowed: np.ndarray | None, vectors: Vectors, embedder: Embeds
    ) -> Ranking:
        (vector,) = embedder.embed([question])
        count = CANDIDATES
        while True:  # more are fetched if too many are not allowed, or belong to the same commits
            count *= 4
            nearest = vectors.nearest(vector, count)
            rows = ((row, cosine) for name, cosine in nearest for row in self._rows_by_id.get(name, ()))
            ranking = self._best_of_groups((row, cosine) for row, cosine in rows if allowed is None or allowed[row])
            if len(ranking) == CANDIDATES or len(nearest) < count:
                return ranking

    def _best_of_groups(self, documents: Iterable[tuple[int, float]]) -> Ranking:
        """Keep the first document of each group, of documents that are sorted by score."""
        ranking, seen = dict[int, float](), set[str]()
        for row, score in documents:
            if len(ranking) == CANDIDATES:
                break
            if self._groups[row] not in seen:
                seen.add(self._groups[row])
                ranking[row] = score
        return ranking

    def _hit(self, row: int, score: float, rarity: dict[str, float], cosines: Ranking) -> Hit:
        document = self.documents[row]
        shared = set(terms(document["searched"])) & rarity.keys()
        return Hit(
            **{name: document[name] for name in ("repo", "commit", "seq", "subject", "path", "line", "text")},
            day=document["commit_time"].date(),
            score=score,
            words=sum(rarity[word] for word in shared) / (sum(rarity.values()) or 1),
            cosine=cosines.get(row),
        )


def fuse(rankings: Sequence[Sequence[Name]]) -> dict[Name, float]:
    """Score each name by its sum of 1 / (`RANK_CONSTANT` + rank), ranks from 1, and sort by score, largest first."""
    scores: dict[Name, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (RANK_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda pair: -pair[1]))


def fits(hit: Hit) -> bool:
    """Whether a hit is closer to the question than the measured hits of unrelated questions."""
    return hit.words >= MIN_WORDS or (hit.cosine or 0.0) >= MIN_COSINE


def hit_lines(hits: Sequence[Hit], question: str) -> Iterator[str]:
    """Yield hits as text, each with the lines that have most of the question's words."""
    words = set(terms(question))
    for rank, hit in enumerate(hits, 1):
        cosine = "" if hit.cosine is None else f", cosine {hit.cosine:.2f}"
        place = f"{hit.path}:{hit.line}" if hit.line else hit.path
        yield f"{rank:3d}. {hit.day}  {hit.commit[:12]}  {place}"
        yield f"     {hit.subject}" if hit.subject else f"     from line {hit.line}"
        yield f"     {hit.score:.4f}: {100 * hit.words:.0f} % of the words{cosine}"
        yield from (f"     | {line}" for line in _best_lines(hit.text, words))


def _best_lines(text: str, words: set[str]) -> list[str]:
    """Select the `LINES_SHOWN` lines of a text that have most of the words, in their order."""
    lines = [line for line in text.split("\n") if line.strip()]
    ranked = sorted(range(len(lines)), key=lambda number: -len(words & set(terms(lines[number]))))
    return [lines[number][:LINE_CHARS] for number in sorted(ranked[:LINES_SHOWN])]

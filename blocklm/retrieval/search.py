"""Searches the changes or files of a history by BM25 and embeddings, fused by reciprocal rank.

BM25 (Robertson and Zaragoza 2009) finds the words, over the parts of identifiers; embeddings find what is meant. Each
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
CANDIDATES = 100  # groups of each ranking that are fused
# What a question about nothing in the history still finds has less of both (docs/retrieval.md).
FLOOR_WORDS, FLOOR_COSINE = 0.5, 0.45
LINES_SHOWN, LINE_CHARS = 4, 120
Name = TypeVar("Name", bound=Hashable)
Ranking = dict[int, float]  # one document a group and its score, the best first


class Embeds(Protocol):
    """What gives texts vectors."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of length one, a row for each text."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A commit, or a file, that fits a question, with its document that fits best.

    `words` is the share of the question's words that the document has, each weighed by how rare it is; `cosine` is the
    likeness of its embedding, None without embeddings or if it is not among the nearest.
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
        rankings = self._rankings(question, self._allowed(within, before))
        fused = fuse([[self._groups[at] for at in ranking] for ranking in rankings])
        cosines = rankings[1] if len(rankings) > 1 else {}
        best: dict[str, int] = {}
        for ats in zip_longest(*rankings):
            for at in ats:
                if at is not None:
                    best.setdefault(self._groups[at], at)
        rarity = {word: self._words.rarity(word) for word in set(terms(question))}
        return [self._hit(best[group], score, rarity, cosines) for group, score in list(fused.items())[:count]]

    def rankings(self, question: str) -> dict[str, list[str]]:
        """What each way to search ranks alone, and both together: commits (or files), the best first."""
        found = [[self._groups[at] for at in ranking] for ranking in self._rankings(question, None)]
        return dict(zip(("words", "meaning"), found, strict=False)) | {"both": list(fuse(found))}

    def _rankings(self, question: str, allowed: np.ndarray | None) -> list[Ranking]:
        found = [self._by_words(question, allowed)]
        return found if self._vectors is None else [*found, self._by_meaning(question, allowed, *self._vectors)]

    def _allowed(self, within: Collection[str] | None, before: int | None) -> np.ndarray | None:
        """Which documents may be found; None for all."""
        if within is None and before is None:
            return None
        commits, seqs = self._places
        allowed = np.ones(len(seqs), bool) if before is None else seqs < before
        return allowed if within is None else allowed & np.fromiter((sha in within for sha in commits), bool)

    @cached_property
    def _places(self) -> tuple[list[str], np.ndarray]:
        return self.documents["commit"][:], np.array(self.documents["seq"][:], np.int64)

    @cached_property
    def _named(self) -> dict[str, list[int]]:
        """The documents of each name: the same text may stand in several."""
        found: dict[str, list[int]] = {}
        for at, name in enumerate(self.documents["id"][:]):
            found.setdefault(name, []).append(at)
        return found

    def _by_words(self, question: str, allowed: np.ndarray | None) -> Ranking:
        scores = self._words.scores(question, allowed)
        order = np.argsort(-scores, kind="stable")
        return self._first_of_groups((int(at), float(scores[at])) for at in order if scores[at] > 0)

    def _by_meaning(self, question: str, allowed: np.ndarray | None, vectors: Vectors, embedder: Embeds) -> Ranking:
        (vector,) = embedder.embed([question])
        wanted = CANDIDATES
        while True:  # what is not allowed, or of a commit that was found already, makes room for more
            wanted *= 4
            near = vectors.nearest(vector, wanted)
            of_names = ((at, cosine) for name, cosine in near for at in self._named.get(name, ()))
            found = self._first_of_groups((at, cosine) for at, cosine in of_names if allowed is None or allowed[at])
            if len(found) == CANDIDATES or len(near) < wanted:
                return found

    def _first_of_groups(self, ranked: Iterable[tuple[int, float]]) -> Ranking:
        found, seen = dict[int, float](), set[str]()
        for at, score in ranked:
            if len(found) == CANDIDATES:
                break
            if self._groups[at] not in seen:
                seen.add(self._groups[at])
                found[at] = score
        return found

    def _hit(self, at: int, score: float, rarity: dict[str, float], cosines: Ranking) -> Hit:
        row = self.documents[at]
        has = set(terms(row["searched"])) & rarity.keys()
        return Hit(
            **{name: row[name] for name in ("repo", "commit", "seq", "subject", "path", "line", "text")},
            day=row["commit_time"].date(),
            score=score,
            words=sum(rarity[word] for word in has) / (sum(rarity.values()) or 1),
            cosine=cosines.get(at),
        )


def fuse(rankings: Sequence[Sequence[Name]]) -> dict[Name, float]:
    """Each name's sum of 1 / (`RANK_CONSTANT` + its rank), the largest first; ranks count from 1."""
    scores: dict[Name, float] = {}
    for ranking in rankings:
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (RANK_CONSTANT + rank)
    return dict(sorted(scores.items(), key=lambda pair: -pair[1]))


def fits(hit: Hit) -> bool:
    """Whether it has more to do with the question than what a question about something else finds, as measured."""
    return hit.words >= FLOOR_WORDS or (hit.cosine or 0.0) >= FLOOR_COSINE


def hit_lines(hits: Sequence[Hit], question: str) -> Iterator[str]:
    """Hits as a person reads them, each with the lines that have most of the question's words."""
    asked = set(terms(question))
    for rank, hit in enumerate(hits, 1):
        cosine = "" if hit.cosine is None else f", cosine {hit.cosine:.2f}"
        place = f"{hit.path}:{hit.line}" if hit.line else hit.path
        yield f"{rank:3d}. {hit.day}  {hit.commit[:12]}  {place}"
        yield f"     {hit.subject}" if hit.subject else f"     from line {hit.line}"
        yield f"     {hit.score:.4f}: {100 * hit.words:.0f} % of the words{cosine}"
        yield from (f"     | {line}" for line in _telling(hit.text, asked))


def _telling(text: str, asked: set[str]) -> list[str]:
    """The few lines of a text with most of the words that are asked for, in their order."""
    lines = [line for line in text.split("\n") if line.strip()]
    having = sorted(range(len(lines)), key=lambda at: -len(asked & set(terms(lines[at]))))
    return [lines[at][:LINE_CHARS] for at in sorted(having[:LINES_SHOWN])]

"""Finds the pieces of a repository's files just before a commit that are most similar to a question about it.

The exam's arms with a search engine use it: pieces of files at the commit's parent, found by BM25 (Robertson and
Zaragoza 2009) over the parts of identifiers, with the word frequencies of all parents together. With embeddings, only
BM25's best pieces are embedded and both rankings are fused, because to embed every piece of every parent would take
longer than the exam.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from blocklm.corpus.places.place import FilePiece
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import files_of, first_parent, read_contents
from blocklm.mining.redaction import redact
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.search import fuse

CHUNK_LINES = 20
MAX_FILE_BYTES = 200_000
SAME_SHARE = 0.5  # of a piece's lines; if the question has as many, it shows the piece already
CANDIDATES = 4  # candidates per wanted piece, because the question may show some already
EMBEDDED_CANDIDATES = 30
Embed = Callable[[Sequence[str]], np.ndarray]  # texts → vectors of length one, a row each


@dataclass(frozen=True, slots=True)
class RetrievalQuery:
    """A question about a commit.

    Attributes:
        commit: id of the commit.
        text: the text to search for.
        shown: what the question shows, whose lines need not be found again; by default the text to search for.
        distractors: number of pieces to add that are drawn at random from the same files, for a model to learn that not
            every piece helps.
    """

    commit: str
    text: str
    shown: str = ""
    distractors: int = 0


def nearest_before(
    repositories: Sequence[Repository],
    questions: Sequence[RetrievalQuery],
    suffixes: frozenset[str],
    count: int,
    embed: Embed | None = None,
    paths: frozenset[str] | None = None,
) -> list[list[FilePiece]]:
    """Find for each question the nearest pieces of files at its commit's first parent, the nearest first.

    Its distractors come last.

    Args:
        repositories: repositories with the commits.
        questions: commits and texts to search for.
        suffixes: suffixes of the files to search, such as `.rs`.
        count: most pieces for a question; pieces that the question shows already do not count.
        embed: function that embeds texts, to rank BM25's candidates again; default: BM25's ranking alone.
        paths: paths of the files to search; default: all with these suffixes.
    """
    nearest: list[list[FilePiece]] = [[] for _ in questions]
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            trees = dict(_trees(environment, {question.commit for question in questions}, suffixes, paths))
            numbers = [number for number, question in enumerate(questions) if question.commit in trees]
            shas = sorted({sha for number in numbers for sha in trees[questions[number].commit]})
            if shas:
                index = _PieceIndex(_read_texts(environment, shas), embed)
                for number in numbers:
                    question = questions[number]
                    nearest[number] = index.nearest(question, trees[question.commit], count)
    texts = [piece.text for pieces in nearest for piece in pieces]
    redacted = iter(redact(texts) if texts else [])
    return [[replace(piece, text=next(redacted).text) for piece in pieces] for pieces in nearest]


class _PieceIndex:
    """Index of the pieces of some files, which are identified by their blob ids.

    Args:
        texts: content of the files by blob id.
        embed: function that embeds texts; None for BM25 alone.
    """

    def __init__(self, texts: Mapping[str, str], embed: Embed | None) -> None:
        self._embed = embed
        self._vectors: dict[int, np.ndarray] = {}
        self._pieces: list[str] = []
        self._of_file: dict[str, range] = {}
        self._file: list[str] = []
        for sha, text in texts.items():
            lines = text.splitlines(keepends=True)
            first = len(self._pieces)
            self._pieces += [
                "".join(lines[start : start + CHUNK_LINES]) for start in range(0, len(lines), CHUNK_LINES)
            ]
            self._of_file[sha] = range(first, len(self._pieces))
            self._file += [sha] * (len(self._pieces) - first)
        self._words = WordIndex.build(self._pieces)

    def nearest(self, question: RetrievalQuery, tree: Mapping[str, str], count: int) -> list[FilePiece]:
        """Return the best pieces of the files in a tree, which maps blob ids to paths, and the distractors."""
        in_tree = np.zeros(len(self._pieces), bool)
        for sha in tree:
            if sha in self._of_file:
                in_tree[self._of_file[sha].start : self._of_file[sha].stop] = True
        scores = self._words.scores(question.text, in_tree)
        shown = lines_of(question.shown or question.text)
        limit = EMBEDDED_CANDIDATES if self._embed else CANDIDATES * count
        candidates = [
            int(number)
            for number in np.argsort(-scores, kind="stable")[:limit]
            if scores[number] > 0 and not is_shown(self._pieces[number], shown)
        ]
        best = self._rerank(question.text, candidates)[:count]
        others = np.flatnonzero(in_tree) if question.distractors else np.array([], np.int64)
        left = [int(number) for number in others if number not in best and not is_shown(self._pieces[number], shown)]
        best += random.Random(question.text).sample(left, min(question.distractors, len(left)))
        return [FilePiece(tree[self._file[number]], self._pieces[number]) for number in best]

    def _rerank(self, text: str, candidates: list[int]) -> list[int]:
        """Fuse the ranking of BM25 with that of embeddings, if there are embeddings."""
        if self._embed is None or not candidates:
            return candidates
        new = [number for number in candidates if number not in self._vectors]
        question, *vectors = self._embed([text, *(self._pieces[number] for number in new)])
        self._vectors |= dict(zip(new, vectors, strict=True))
        by_meaning = sorted(candidates, key=lambda number: -float(self._vectors[number] @ question))
        return list(fuse([candidates, by_meaning]))


def lines_of(text: str) -> set[str]:
    """Return the lines of a text without surrounding white space."""
    return {line.strip() for line in text.split("\n")}


def is_shown(piece: str, shown: set[str]) -> bool:
    """Whether at least half of a piece's lines are among those that are shown already."""
    lines = [line.strip() for line in piece.split("\n") if line.strip()]
    return sum(line in shown for line in lines) >= SAME_SHARE * len(lines)


def _trees(
    environment: dict[str, str], commits: set[str], suffixes: frozenset[str], paths: frozenset[str] | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each commit with a parent in the repository, and the files of its first parent as blob id → path."""
    of_parent: defaultdict[str, list[str]] = defaultdict(list)
    for commit in sorted(commits):
        parent = first_parent(environment, commit)
        if parent is not None:
            of_parent[parent].append(commit)
    for parent, children in of_parent.items():
        tree = {
            file.blob: file.path
            for file in files_of(environment, parent)
            if file.size <= MAX_FILE_BYTES
            and PurePosixPath(file.path).suffix in suffixes
            and (paths is None or file.path in paths)
        }
        yield from ((child, tree) for child in children)


def _read_texts(environment: dict[str, str], shas: Sequence[str]) -> dict[str, str]:
    """Read the blobs that are UTF-8 text, by id."""
    texts = {}
    for sha, content in read_contents(environment, shas):
        try:
            texts[sha] = content.decode()
        except UnicodeDecodeError:
            continue
    return {sha: text for sha, text in texts.items() if "\0" not in text}

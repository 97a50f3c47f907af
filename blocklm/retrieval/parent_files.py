"""Finds the pieces of a repository's files just before a commit that are most similar to a question about it.

The arm of the exam that has nothing but a search engine: pieces of files at the commit's parent, found by BM25
(Robertson and Zaragoza 2009) over the parts of identifiers. Word frequencies are those of all parents together. Given
embeddings, the best of these are ranked by them too and both rankings fused: to embed every piece of every parent
would take longer than the exam.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import files_of, first_parent, read_contents
from blocklm.mining.redaction import redact
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.search import fuse

CHUNK_LINES = 20
MAX_FILE_BYTES = 200_000
SAME_SHARE = 0.5  # of a piece's lines: then the question shows it already
CANDIDATES = 4  # times as many as wanted, of which some are shown already
EMBEDDED_CANDIDATES = 30
Embed = Callable[[Sequence[str]], np.ndarray]  # texts → vectors of length one, a row each


@dataclass(frozen=True, slots=True)
class RetrievalQuery:
    """A commit, and the text that a question about it shows."""

    commit: str
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some lines of a file as they stood at a parent; secrets are taken out."""

    repository: str
    path: str
    text: str


def nearest_before(
    repositories: Sequence[Repository],
    questions: Sequence[RetrievalQuery],
    suffixes: frozenset[str],
    count: int,
    embed: Embed | None = None,
) -> list[list[Piece]]:
    """For each question the pieces of files at the commit's first parent that are nearest to it, the nearest first.

    Args:
        repositories: repositories with the commits.
        questions: commits and texts to search for.
        suffixes: suffixes of the files to search, such as `.rs`.
        count: most pieces for a question; pieces that the question shows already do not count.
        embed: function that embeds texts, to rank BM25's candidates again; default: BM25's ranking alone.
    """
    found: list[list[Piece]] = [[] for _ in questions]
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            trees = dict(_trees(environment, {question.commit for question in questions}, suffixes))
            asked = [at for at, question in enumerate(questions) if question.commit in trees]
            shas = sorted({sha for at in asked for sha in trees[questions[at].commit]})
            if shas:
                index = _Index(repository.name, _texts(environment, shas), embed)
                for at in asked:
                    found[at] = index.nearest(questions[at].text, trees[questions[at].commit], count)
    shown = [piece for pieces in found for piece in pieces]
    clean = iter(redact([piece.text for piece in shown]) if shown else [])
    return [[replace(piece, text=next(clean).text) for piece in pieces] for pieces in found]


class _Index:
    """The pieces of some files, by the name of their content."""

    def __init__(self, repository: str, texts: Mapping[str, str], embed: Embed | None) -> None:
        self._repository, self._embed = repository, embed
        self._vectors: dict[int, np.ndarray] = {}
        self._pieces: list[str] = []
        self._of_file: dict[str, range] = {}
        self._file: list[str] = []
        for sha, text in texts.items():
            lines = text.splitlines(keepends=True)
            first = len(self._pieces)
            self._pieces += ["".join(lines[at : at + CHUNK_LINES]) for at in range(0, len(lines), CHUNK_LINES)]
            self._of_file[sha] = range(first, len(self._pieces))
            self._file += [sha] * (len(self._pieces) - first)
        self._words = WordIndex.build(self._pieces)

    def nearest(self, text: str, tree: Mapping[str, str], count: int) -> list[Piece]:
        """The best pieces of the files of a tree (content → path)."""
        inside = np.zeros(len(self._pieces), bool)
        for sha in tree:
            if sha in self._of_file:
                inside[self._of_file[sha].start : self._of_file[sha].stop] = True
        scores = self._words.scores(text, inside)
        shown = lines_of(text)
        most = EMBEDDED_CANDIDATES if self._embed else CANDIDATES * count
        near = [
            int(at)
            for at in np.argsort(-scores, kind="stable")[:most]
            if scores[at] > 0 and not is_shown(self._pieces[at], shown)
        ]
        best = self._ranked_again(text, near)[:count]
        return [Piece(self._repository, tree[self._file[at]], self._pieces[at]) for at in best]

    def _ranked_again(self, text: str, near: list[int]) -> list[int]:
        """The pieces by both rankings, if there are two."""
        if self._embed is None or not near:
            return near
        new = [at for at in near if at not in self._vectors]
        asked, *vectors = self._embed([text, *(self._pieces[at] for at in new)])
        self._vectors |= dict(zip(new, vectors, strict=True))
        by_meaning = sorted(near, key=lambda at: -float(self._vectors[at] @ asked))
        return list(fuse([near, by_meaning]))


def lines_of(text: str) -> set[str]:
    """The lines of a text, without the white space around them."""
    return {line.strip() for line in text.split("\n")}


def is_shown(piece: str, shown: set[str]) -> bool:
    """Whether most lines of a piece are among those that are shown already."""
    lines = [line.strip() for line in piece.split("\n") if line.strip()]
    return sum(line in shown for line in lines) >= SAME_SHARE * len(lines)


def _trees(
    environment: dict[str, str], commits: set[str], suffixes: frozenset[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The files at the first parent of each commit that is here and has one, as content → path."""
    of_parent: defaultdict[str, list[str]] = defaultdict(list)
    for commit in sorted(commits):
        parent = first_parent(environment, commit)
        if parent is not None:
            of_parent[parent].append(commit)
    for parent, children in of_parent.items():
        tree = {
            file.blob: file.path
            for file in files_of(environment, parent)
            if file.size <= MAX_FILE_BYTES and PurePosixPath(file.path).suffix in suffixes
        }
        yield from ((child, tree) for child in children)


def _texts(environment: dict[str, str], shas: Sequence[str]) -> dict[str, str]:
    """The content of files that are UTF-8 text."""
    texts = {}
    for sha, content in read_contents(environment, shas):
        try:
            texts[sha] = content.decode()
        except UnicodeDecodeError:
            continue
    return {sha: text for sha, text in texts.items() if "\0" not in text}

"""Reads from the repositories which files existed before a commit, and which symbols the commit removed."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.syntax import GRAMMARS
from blocklm.corpus.tree.constructs import symbols
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import files_of, first_parent, read_contents

SYMBOL = re.compile(r"\b[A-Za-z_]\w{2,}", re.ASCII)
WORD = re.compile(rb"\w+")
Words = Mapping[str, frozenset[str]]  # by commit


def files_before(repositories: Sequence[Repository], commits: Iterable[str]) -> dict[str, frozenset[str]]:
    """List the files at the first parent of each commit; none for a commit without a parent."""
    files: dict[str, frozenset[str]] = dict.fromkeys(commits, frozenset())
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            for commit in files:
                parent = first_parent(environment, commit)
                if parent is not None:
                    files[commit] = frozenset(file.path for file in files_of(environment, parent))
    return files


def removed_symbols(
    repositories: Sequence[Repository], changes: Dataset, commits: Sequence[Sequence[AnnotatedHunk]]
) -> dict[str, frozenset[str]]:
    """Find the symbols in removed lines that the commit's files defined before it, and that no file contains after it.

    Args:
        repositories: the repositories with the commits.
        changes: the changes dataset.
        commits: the hunks of each commit.

    Returns:
        The symbols by commit.
    """
    words = {commit[0].text.commit: _removed_words(commit) for commit in commits}
    blobs = _old_blobs(changes, list(words))
    removed: dict[str, frozenset[str]] = {}
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            removed |= _defined(environment, _absent(environment, words), blobs)
    return removed


def _removed_words(commit: Sequence[AnnotatedHunk]) -> frozenset[str]:
    """Return the words of the commit's removed lines that none of its other lines has."""
    removed, left = set[str](), set[str]()
    for hunk in commit:
        for mark, text in hunk.text.marked:
            (removed if mark == "-" else left).update(SYMBOL.findall(text))
    return frozenset(removed - left)


def _old_blobs(changes: Dataset, commits: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the language of each old blob that a commit changed, by commit and blob, if there is a grammar for it."""
    table = changes.data.table.select(["commit", "language", "before_blob"])
    table = table.filter(pc.is_in(table["commit"], value_set=pa.array(commits, pa.string())))
    languages: dict[str, dict[str, str]] = defaultdict(dict)
    for row in table.to_pylist():
        if row["before_blob"] is not None and row["language"] in GRAMMARS:
            languages[row["commit"]][row["before_blob"]] = row["language"]
    return languages


def _absent(environment: dict[str, str], words: Words) -> dict[str, frozenset[str]]:
    """Return the words of each commit in this repository that no file of its tree contains."""
    trees = {commit: [file.blob for file in files_of(environment, commit)] for commit, own in words.items() if own}
    wanted = frozenset(word.encode() for own in words.values() for word in own)
    blobs = sorted({blob for tree in trees.values() for blob in tree})
    in_blob = {blob: wanted.intersection(WORD.findall(content)) for blob, content in read_contents(environment, blobs)}
    absent = {}
    for commit, tree in trees.items():
        if tree:
            present = {word.decode() for blob in tree for word in in_blob.get(blob, ())}
            absent[commit] = words[commit] - present
    return absent


def _defined(environment: dict[str, str], words: Words, before: Mapping[str, Mapping[str, str]]) -> Words:
    """Return the words of each commit that one of its old blobs defines; `before` has their languages."""
    candidates = {commit: own for commit, own in words.items() if own}
    blobs = sorted({blob for commit in candidates for blob in before.get(commit, ())})
    users: dict[str, list[str]] = defaultdict(list)
    for commit in candidates:
        for blob in before.get(commit, ()):
            users[blob].append(commit)
    defined: dict[str, frozenset[str]] = dict.fromkeys(candidates, frozenset())
    for blob, content in read_contents(environment, blobs):
        text = content.decode("utf-8", "replace")
        present = {word.decode() for word in WORD.findall(content)}
        for commit in users[blob]:
            if not candidates[commit].isdisjoint(present):
                defined[commit] |= candidates[commit] & symbols(text, before[commit][blob])
    return defined

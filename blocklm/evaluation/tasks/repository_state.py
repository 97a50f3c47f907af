"""What of the repository's past the tasks need: the files that stood before a commit, and the symbols that it did away with."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.evaluation.definitions import symbols
from blocklm.evaluation.syntax import GRAMMARS
from blocklm.git.isolation import isolated_repository
from blocklm.git.repository import Repository
from blocklm.git.trees import files_of, first_parent, read_contents

SYMBOL = re.compile(r"\b[A-Za-z_]\w{2,}", re.ASCII)
WORD = re.compile(rb"\w+")
Words = Mapping[str, frozenset[str]]  # of commits


def files_before(repositories: Sequence[Repository], commits: Iterable[str]) -> dict[str, frozenset[str]]:
    """The files that stood at the first parent of each commit; none for a commit without one."""
    found: dict[str, frozenset[str]] = dict.fromkeys(commits, frozenset())
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            for commit in found:
                parent = first_parent(environment, commit)
                if parent is not None:
                    found[commit] = frozenset(file.path for file in files_of(environment, parent))
    return found


def removed_symbols(
    repositories: Sequence[Repository], changes: Dataset, commits: Sequence[Sequence[AnnotatedHunk]]
) -> dict[str, frozenset[str]]:
    """The symbols in removed lines that files of the commit defined before, and that stand in no file after it.

    Args:
        repositories: where the commits are.
        changes: the changes dataset.
        commits: the hunks of each.
    """
    words = {commit[0].text.commit: _removed_words(commit) for commit in commits}
    before = _before(changes, list(words))
    found: dict[str, frozenset[str]] = {}
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            found |= _defined(environment, _absent(environment, words), before)
    return found


def _removed_words(commit: Sequence[AnnotatedHunk]) -> frozenset[str]:
    """Words of the commit's removed lines that none of its other lines has."""
    removed, left = set[str](), set[str]()
    for lesson in commit:
        for mark, text in lesson.text.marked:
            (removed if mark == "-" else left).update(SYMBOL.findall(text))
    return frozenset(removed - left)


def _before(changes: Dataset, commits: Sequence[str]) -> dict[str, dict[str, str]]:
    """The contents that each commit changed, with their languages, where a grammar reads them."""
    table = changes.data.table.select(["commit", "language", "before_blob"])
    table = table.filter(pc.is_in(table["commit"], value_set=pa.array(commits, pa.string())))
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in table.to_pylist():
        if row["before_blob"] is not None and row["language"] in GRAMMARS:
            found[row["commit"]][row["before_blob"]] = row["language"]
    return found


def _absent(environment: dict[str, str], words: Words) -> dict[str, frozenset[str]]:
    """Of the words of each commit that is here, those that stand in no file of its tree."""
    trees = {commit: [file.blob for file in files_of(environment, commit)] for commit, some in words.items() if some}
    asked = frozenset(word.encode() for some in words.values() for word in some)
    blobs = sorted({blob for tree in trees.values() for blob in tree})
    there = {blob: asked.intersection(WORD.findall(content)) for blob, content in read_contents(environment, blobs)}
    found = {}
    for commit, tree in trees.items():
        if tree:
            standing = {word.decode() for blob in tree for word in there.get(blob, ())}
            found[commit] = words[commit] - standing
    return found


def _defined(environment: dict[str, str], words: Words, before: Mapping[str, Mapping[str, str]]) -> Words:
    """Of the words of each commit those that one of the contents before it defines."""
    asked = {commit: some for commit, some in words.items() if some}
    blobs = sorted({blob for commit in asked for blob in before.get(commit, ())})
    users: dict[str, list[str]] = defaultdict(list)
    for commit in asked:
        for blob in before.get(commit, ()):
            users[blob].append(commit)
    found: dict[str, frozenset[str]] = dict.fromkeys(asked, frozenset())
    for blob, content in read_contents(environment, blobs):
        text = content.decode("utf-8", "replace")
        standing = {word.decode() for word in WORD.findall(content)}
        for commit in users[blob]:
            if not asked[commit].isdisjoint(standing):
                found[commit] |= asked[commit] & symbols(text, before[commit][blob])
    return found

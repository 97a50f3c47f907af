"""Reads the `linguist-*` attributes in force at each commit, from the commits' own files, never from a work tree.

A later `.gitattributes` must not change which earlier changes are kept, or else the exam would leak into training.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from pathspec import GitIgnoreSpec

from blocklm.git.commits import Commit
from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.repository import Repository
from blocklm.mining.file_types import Attributes

FILE = ".gitattributes"
# Folder (with a slash at its end, empty for the root) and blob of each `.gitattributes` file in a tree.
_Files = tuple[tuple[str, str], ...]


class AttributeHistory:
    """Follows the `.gitattributes` files from commit to commit; git lists them only if parents differ or are unread."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._files_of: dict[str, _Files] = {}

    def at(self, commit: Commit) -> "AttributeRules | None":
        """The attribute rules at a commit; None if there are none. Call it for parents before their children."""
        parents = [self._known(parent) for parent in commit.parents]
        if commit.error is not None or any(files != parents[0] for files in parents[1:]):
            files = self._read_tree(commit.sha)
        else:
            files = _apply_commit(parents[0] if parents else (), commit)
        self._files_of[commit.sha] = files
        return self._rules(files) if files else None

    def _known(self, sha: str) -> _Files:
        if sha not in self._files_of:
            self._files_of[sha] = self._read_tree(sha)
        return self._files_of[sha]

    def _read_tree(self, sha: str) -> _Files:
        listing = self._git("ls-tree", "-r", "-z", sha)
        entries = (entry.partition("\t") for entry in listing.split("\0") if entry.endswith(FILE))
        return tuple(
            sorted((path.removesuffix(FILE), head.split()[2]) for head, _, path in entries if _is_attributes(path))
        )

    @lru_cache(maxsize=64)  # noqa: B019  (lives as long as one mining)
    def _rules(self, files: _Files) -> "AttributeRules | None":
        lines = [
            (folder, line)
            for folder, blob in sorted(files, key=lambda file: file[0].count("/"))
            for line in self._git("cat-file", "blob", blob)
            .encode("utf-8", "replace")
            .decode()
            .split("\n")  # git's only line end
            if "linguist-" in line
        ]
        return AttributeRules(lines) if lines else None

    def _git(self, *arguments: str) -> str:
        with isolated_repository(self._repository.git_dir, self._repository.shallow) as environment:
            return run_git(environment, *arguments).stdout


class AttributeRules:
    """The lines of all `.gitattributes` files with linguist's attributes, outermost folder first; the last match wins.

    Patterns are matched as in `.gitignore`, so that `docs/*`, unlike in git, also matches in subfolders. As in git, a
    line that cannot be parsed is skipped.
    """

    def __init__(self, lines: list[tuple[str, str]]) -> None:
        self._rules = []
        for folder, line in lines:
            pattern, *attributes = line.split()
            if not pattern.startswith(("#", "[attr]", "!", '"')):
                with suppress(ValueError, re.error):  # no valid glob
                    self._rules.append((folder, GitIgnoreSpec.from_lines([pattern]), _parse_attributes(attributes)))

    @lru_cache(maxsize=1 << 14)  # noqa: B019  (as many rules as a history has, for as long as it is mined)
    def of(self, path: str) -> Attributes:
        """The attributes of a path."""
        result: dict[str, str | bool] = {}
        for folder, spec, attributes in self._rules:
            if path.startswith(folder) and spec.match_file(path.removeprefix(folder)):
                result |= attributes
        return result


def _apply_commit(files: _Files, commit: Commit) -> _Files:
    touched = [file for file in commit.files if _is_attributes(file.path) or _is_attributes(file.old_path)]
    if not touched:
        return files
    now = dict(files)
    for file in touched:
        now.pop(file.old_path.removesuffix(FILE), None)
        if file.after_blob and _is_attributes(file.path):
            now[file.path.removesuffix(FILE)] = file.after_blob
    return tuple(sorted(now.items()))


def _is_attributes(path: str) -> bool:
    return path == FILE or path.endswith(f"/{FILE}")


def _parse_attributes(attributes: list[str]) -> Mapping[str, str | bool]:
    values: dict[str, str | bool] = {}
    for word in attributes:
        name, equals, value = word.partition("=")
        values[name.lstrip("-!")] = value if equals else not name.startswith(("-", "!"))
    return {name: value for name, value in values.items() if name.startswith("linguist-")}

"""Counts which files were changed by the same commits."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

MAX_FILES = 50  # in a commit; larger ones do not show which files belong together


class CoChanges:
    """Which files were changed together.

    Args:
        changed: path of each changed file and position of its commit in the history.
    """

    def __init__(self, changed: Iterable[tuple[str, int]]) -> None:
        commits: defaultdict[int, set[str]] = defaultdict(set)
        for path, seq in changed:
            commits[seq].add(path)
        self._commits: Mapping[int, set[str]] = {
            seq: paths for seq, paths in commits.items() if len(paths) <= MAX_FILES
        }
        self._of_path: defaultdict[str, list[int]] = defaultdict(list)
        for seq, paths in self._commits.items():
            for path in paths:
                self._of_path[path].append(seq)

    def share(self, path: str, other: str, before: int) -> float:
        """Return the share of a file's earlier commits, before position `before`, that changed another file too."""
        own = [seq for seq in self._of_path.get(path, ()) if seq < before]
        return sum(other in self._commits[seq] for seq in own) / len(own) if own else 0.0

    def partners(self, path: str) -> list[str]:
        """Return the files that were changed together with a file, the most frequent first."""
        commits = (self._commits[seq] for seq in self._of_path.get(path, ()))
        counts = Counter(other for paths in commits for other in paths if other != path)
        return sorted(counts, key=lambda other: (-counts[other], other))

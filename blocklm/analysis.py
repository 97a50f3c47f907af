"""What a repository looks like, counted while its commits stream by."""

from collections import Counter
from typing import Any

from blocklm.commits import Commit, Repository

LANGUAGES_SHOWN = 20


class Analysis:
    """Counts of one history; `report` is the manifest's `repository` entry."""

    def __init__(self) -> None:
        self.commits = self.merges = 0
        self.authors: set[str] = set()
        self.languages: Counter[str] = Counter()
        self.unreadable: list[str] = []
        self.first = self.last = ""

    def count(self, commit: Commit) -> None:
        """Take a commit into account; its changed lines come through `languages`, which the caller knows."""
        self.commits += 1
        self.merges += len(commit.parents) > 1
        self.authors.add(commit.author)
        time = commit.commit_time.isoformat()
        self.first, self.last = min(self.first or time, time), max(self.last, time)
        if commit.error:
            self.unreadable.append(commit.sha)

    def report(self, repository: Repository) -> dict[str, Any]:
        """Numbers only: authors are counted, not named."""
        return {
            "name": repository.name,
            "path": str(repository.path),
            "head": repository.head,
            "commits": self.commits,
            "merges": self.merges,
            "branches": repository.branches,
            "authors": len(self.authors),
            "first_commit_time": self.first,
            "last_commit_time": self.last,
            "languages": dict(self.languages.most_common(LANGUAGES_SHOWN)),
            "unreadable": self.unreadable,
        }

"""Searches all of a history for a text, with git's own search."""

from collections.abc import Iterable

from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.repository import Repository


def stands_in_history(repositories: Iterable[Repository], text: str) -> bool:
    """Whether any version of a file or any message contains a text, before redaction."""
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            for option in (f"-S{text}", f"--grep={text}"):
                done = run_git(
                    environment, "log", "-1", "--format=%H", "--fixed-strings", option, repository.head, "--"
                )
                if done.stdout.strip():
                    return True
    return False

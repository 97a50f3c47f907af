"""Whether a text stands anywhere in a history, as git finds it."""

from collections.abc import Iterable

from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.repository import Repository


def stands_in_history(repositories: Iterable[Repository], text: str) -> bool:
    """Whether a text stands in some version of a file or in a message, before anything was redacted."""
    for repository in repositories:
        with isolated_repository(repository.git_dir, repository.shallow) as environment:
            for asked in (f"-S{text}", f"--grep={text}"):
                found = run_git(
                    environment, "log", "-1", "--format=%H", "--fixed-strings", asked, repository.head, "--"
                )
                if found.stdout.strip():
                    return True
    return False

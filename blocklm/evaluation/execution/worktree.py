"""The files of a commit as they would be checked out, and the place of an edit in one of them."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blocklm.git.isolation import isolated_repository, run_git
from blocklm.git.repository import Repository


@dataclass(frozen=True)
class Place:
    """What stands in a file before and after the lines of an edit, and how the file ends."""

    before: str
    truth: str
    after: str
    end: str

    def filled(self, lines: str) -> str:
        """The file with `lines` in that place; a line's end at their end is added if it is missing."""
        whole = f"{self.before}{lines if lines.endswith(chr(10)) or not lines else lines + chr(10)}{self.after}"
        return whole.removesuffix("\n") + self.end


@dataclass(frozen=True)
class Tree:
    """The files of a commit under `folder`, which everybody may read."""

    folder: Path

    def place(self, path: str, truth: str) -> Place | None:
        """Where the lines `truth` stand in a file; None unless they stand there, and only once.

        They do not where something was redacted, or git would convert the file's line ends.
        """
        file = self.folder / path
        if not file.is_file() or file.resolve() != self.folder.resolve() / path:  # a link may lead out of the tree
            return None
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError:
            return None
        lines, wanted = f"\n{text.removesuffix(chr(10))}\n", f"\n{truth.removesuffix(chr(10))}\n"
        at = lines.find(wanted)
        if at < 0 or lines.find(wanted, at + 1) >= 0:
            return None
        return Place(lines[1 : at + 1], truth, lines[at + len(wanted) :], "\n" if text.endswith("\n") else "")

    @contextmanager
    def holding(self, path: str, text: str) -> Iterator[Path]:
        """The folder, in which a file has another text for as long as the block."""
        file = self.folder / path
        kept = file.read_bytes()
        try:
            file.write_bytes(text.encode("utf-8", "replace"))
            yield self.folder
        finally:
            file.write_bytes(kept)


@contextmanager
def tree_of(repositories: Sequence[Repository], commit: str) -> Iterator[Tree | None]:
    """Check a commit out for the block, without filters and hooks; None if no repository has it.

    A file that is missing (a partial clone) is left out: whether that matters, the check of the commit itself tells.
    """
    with tempfile.TemporaryDirectory(prefix="blocklm-") as place:
        folder = Path(place) / "tree"
        folder.mkdir()
        for repository in repositories:
            with isolated_repository(repository.git_dir, repository.shallow) as environment:
                own = environment | {"GIT_INDEX_FILE": f"{place}/index", "GIT_WORK_TREE": str(folder)}
                read = run_git(own, "read-tree", commit)
                if read.returncode == 0:
                    run_git(own, "checkout-index", "--all", "--quiet")
                    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)  # whatever our umask is
                    yield Tree(folder)
                    return
        yield None

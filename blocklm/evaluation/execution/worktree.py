"""Checks out the files of a commit, and finds the place of an edit in one of them."""

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
    """The text of a file before, at and after an edit, and the line end of the file, if it has one."""

    before: str
    truth: str
    after: str
    end: str

    def filled(self, lines: str) -> str:
        """Return the file with `lines` in this place; a missing line end is added to them."""
        text = f"{self.before}{lines if lines.endswith(chr(10)) or not lines else lines + chr(10)}{self.after}"
        return text.removesuffix("\n") + self.end


@dataclass(frozen=True)
class Tree:
    """The files of a commit under `folder`, readable by every user."""

    folder: Path

    def place(self, path: str, truth: str) -> Place | None:
        """Find the lines `truth` in a file; None unless the file contains them exactly once.

        It does not if a secret in them was redacted, or if git would convert the file's line ends.
        """
        file = self.folder / path
        if not file.is_file() or file.resolve() != self.folder.resolve() / path:  # a link may lead out of the tree
            return None
        try:
            text = file.read_bytes().decode()
        except UnicodeDecodeError:
            return None
        lines, wanted = f"\n{text.removesuffix(chr(10))}\n", f"\n{truth.removesuffix(chr(10))}\n"
        start = lines.find(wanted)
        if start < 0 or lines.find(wanted, start + 1) >= 0:
            return None
        return Place(lines[1 : start + 1], truth, lines[start + len(wanted) :], "\n" if text.endswith("\n") else "")

    @contextmanager
    def holding(self, path: str, text: str) -> Iterator[Path]:
        """Replace the text of a file for the duration of the block; yield the folder."""
        file = self.folder / path
        kept = file.read_bytes()
        try:
            file.write_bytes(text.encode("utf-8", "replace"))
            yield self.folder
        finally:
            file.write_bytes(kept)


@contextmanager
def tree_of(repositories: Sequence[Repository], commit: str) -> Iterator[Tree | None]:
    """Check a commit out for the duration of the block, without filters and hooks; None if no repository has it.

    Files that a partial clone lacks are left out; if the check needs them, the commit's true edit fails too.
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

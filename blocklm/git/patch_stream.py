"""The patches and messages of many commits from few git processes that live long.

A process per commit costs ten times what its diff costs: packs are opened and delta caches filled anew each time. Here
`git diff-tree --stdin` and `git cat-file --batch` read commit names from files and answer in order, one diff process per
core, each working ahead as far as its pipe holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from blocklm.git.isolation import run_git
from blocklm.git.process import GitProcess, Unreadable

# Commits go to the processes in turn, so many at a time: neighbours share objects, and small blocks keep all busy.
COMMITS_PER_BLOCK = 32
# From here on a commit's patch is handed out file by file instead of whole.
PIECE_BYTES = 4 << 20
# diff-tree echoes a line that is no object name: it says that the patch before it is complete. No line of a patch begins
# with a full stop (` +-\@` in hunks, keywords in headers; paths with a newline are quoted).
END = b".\n"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it without having it
DIFF_TREE = (
    "diff-tree", "--stdin", "--always", "-r", "--root", "-M", "-p", "--full-index", "--no-ext-diff", "--no-textconv",
    "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


class _CommitObjects(GitProcess):
    """Answers with the raw text of commits."""

    def __init__(self, environment: dict[str, str], questions: Path) -> None:
        super().__init__(("cat-file", "--batch"), environment, questions)

    def next(self) -> bytes:
        """The next commit asked for.

        Raises:
            Unreadable: it is not in the repository.
        """
        while (line := self.buffer.find(b"\n", self.position)) < 0:
            self.fill()
        header = self.take(0, line - self.position)
        if header.endswith(b" missing"):
            raise Unreadable(header.decode())
        start = len(header) + 1
        size = int(header.rpartition(b" ")[2])
        while len(self.buffer) - self.position < start + size + 1:
            self.fill()
        content = self.take(start, start + size)
        self.position += start + size + 1
        return content


class _Patches(GitProcess):
    """Answers with the patch of each commit; merges and empty commits have an empty one."""

    def __init__(self, environment: dict[str, str], context_lines: int, questions: Path, skip: int = 0) -> None:
        super().__init__((*DIFF_TREE, f"-U{context_lines}"), environment, questions, skip)

    def next(self, sha: str) -> Iterator[bytes]:
        """Yield the next patch in pieces that end between files; mostly there is one.

        Raises:
            Unreadable: the process ended before the patch did.
        """
        header = sha.encode()
        while len(self.buffer) - self.position <= len(header):
            self.fill()
        assert self.take(0, len(header) + 1) == header + b"\n", "patches come in the order asked for"
        # `position` stands on the newline before what is to be read: the end mark is a whole line.
        self.position += len(header)
        searched = 0
        while (end := self.buffer.find(b"\n" + END, self.position + searched)) < 0:
            searched = max(0, len(self.buffer) - self.position - len(END))
            if searched > PIECE_BYTES:
                cut = self.buffer.rfind(b"\ndiff --git ", self.position + 1)
                if cut > 0:
                    yield self.take(1, cut + 1 - self.position)
                    searched -= cut - self.position
                    self.position = cut
            self.fill()
        yield self.take(1, end + 1 - self.position)
        self.position = end + 1 + len(END)


def tree_patch(environment: dict[str, str], commit: str) -> Iterator[bytes]:
    """Yield the patch that makes the tree of `commit` out of nothing, in pieces that end between files.

    Raises:
        Unreadable: an object of it is missing or corrupt.
    """
    pair = f"{EMPTY_TREE} {run_git(environment, 'rev-parse', f'{commit}^{{tree}}').stdout.strip()}"
    questions = Path(environment["GIT_DIR"]) / "tree"
    questions.write_bytes(_question(pair))
    process = _Patches(environment, 0, questions)
    try:
        yield from process.next(pair)
    finally:
        process.close()


@dataclass
class _Worker:
    """A diff process, the file of its questions, and how many of them are answered."""

    process: _Patches
    questions: Path
    answered: int = 0


class PatchStream:
    """Commit texts and patches of `shas`, in their order; a context manager that leaves no process behind.

    The questions lie in the sterile repository of `environment` and go with it.
    """

    def __init__(self, environment: dict[str, str], shas: Sequence[str], context_lines: int, workers: int) -> None:
        self._environment = environment
        self._context_lines = context_lines
        self._at = 0
        self._shas = shas
        folder = Path(environment["GIT_DIR"])
        (folder / "commits").write_text("".join(f"{sha}\n" for sha in shas), encoding="ascii")
        self._objects = _CommitObjects(environment, folder / "commits")
        self._workers = []
        for number in range(workers):
            own = (sha for at, sha in enumerate(shas) if at // COMMITS_PER_BLOCK % workers == number)
            questions = folder / f"patches-{number}"
            questions.write_bytes(b"".join(_question(sha) for sha in own))
            self._workers.append(_Worker(_Patches(environment, context_lines, questions), questions))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._objects.close()
        for worker in self._workers:
            worker.process.close()

    def commit(self) -> bytes:
        """The raw text of the next commit; call `patch` before asking for another.

        Raises:
            Unreadable: the repository changed since its commits were listed.
        """
        return self._objects.next()

    def patch(self) -> Iterator[bytes]:
        """The patch of the commit that `commit` gave, in pieces that end between files.

        Raises:
            Unreadable: an object is missing or corrupt; the stream goes on with the next commit.
        """
        sha = self._shas[self._at]
        worker = self._workers[self._at // COMMITS_PER_BLOCK % len(self._workers)]
        self._at += 1
        retried = begun = False  # a process killed by a signal before it answered gets a second chance
        while True:
            try:
                for piece in worker.process.next(sha):
                    begun = True
                    yield piece
                worker.answered += 1
                return
            except Unreadable as failure:
                retried, again = True, failure.killed and not (retried or begun)
                worker.answered += 0 if again else 1
                worker.process.close()
                skip = worker.answered * len(_question(sha))
                worker.process = _Patches(self._environment, self._context_lines, worker.questions, skip)
                if not again:
                    raise


def _question(sha: str) -> bytes:
    return sha.encode() + b"\n" + END

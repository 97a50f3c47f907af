"""Streams the patches and messages of many commits from a few long-lived git processes.

A process per commit costs ten times as much as its diff: each opens the packs and fills its delta caches again. Here
`git diff-tree --stdin` and `git cat-file --batch` read commit ids from files and answer in order. There is one diff
process per core, and each works ahead until its pipe is full.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from blocklm.git.isolation import run_git
from blocklm.git.process import GitProcess, Unreadable

# Commits go to the processes in turn, in blocks of this size: neighbours share objects, and small blocks keep all busy.
COMMITS_PER_BLOCK = 32
# A patch larger than this is yielded in pieces that end between files.
PIECE_BYTES = 4 << 20
# diff-tree echoes a line that is no object id, so this line marks the end of the patch before it. No line of a patch
# begins with a full stop (` +-\@` in hunks, keywords in headers; paths with a newline are quoted).
END = b".\n"
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it without having it
DIFF_TREE = (
    "diff-tree", "--stdin", "--always", "-r", "--root", "-M", "-p", "--full-index", "--no-ext-diff", "--no-textconv",
    "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


class _CommitObjects(GitProcess):
    """A git process that writes the raw text of commits."""

    def __init__(self, environment: dict[str, str], questions: Path) -> None:
        super().__init__(("cat-file", "--batch"), environment, questions)

    def next(self) -> bytes:
        """The text of the next commit.

        Raises:
            Unreadable: the commit is not in the repository.
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
    """A git process that writes the patch of each commit; merges and empty commits have an empty one."""

    def __init__(self, environment: dict[str, str], context_lines: int, questions: Path, skip: int = 0) -> None:
        super().__init__((*DIFF_TREE, f"-U{context_lines}"), environment, questions, skip)

    def next(self, sha: str) -> Iterator[bytes]:
        """Yield the next patch in pieces that end between files; most patches are one piece.

        Raises:
            Unreadable: the process ended before the patch did.
        """
        header = sha.encode()
        while len(self.buffer) - self.position <= len(header):
            self.fill()
        assert self.take(0, len(header) + 1) == header + b"\n", "patches come in the order asked for"
        # `position` is at the newline before the patch, so that the end mark is found as a line even in an empty patch.
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
    """Yield the patch that adds all files of `commit` to an empty tree, in pieces that end between files.

    Raises:
        Unreadable: an object of the commit is missing or corrupt.
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
    """A diff process.

    Attributes:
        questions: file of the commit ids that it reads.
        answered: number of commits whose patches were read.
    """

    process: _Patches
    questions: Path
    answered: int = 0


class PatchStream:
    """Streams the texts and patches of `shas` in their order; a context manager that leaves no process behind.

    Args:
        environment: environment of an isolated repository, whose folder also holds the processes' input files.
        shas: ids of the commits.
        context_lines: unchanged lines around each change.
        workers: number of diff processes.
    """

    def __init__(self, environment: dict[str, str], shas: Sequence[str], context_lines: int, workers: int) -> None:
        self._environment = environment
        self._context_lines = context_lines
        self._next = 0
        self._shas = shas
        folder = Path(environment["GIT_DIR"])
        (folder / "commits").write_text("".join(f"{sha}\n" for sha in shas), encoding="ascii")
        self._objects = _CommitObjects(environment, folder / "commits")
        self._workers = []
        for number in range(workers):
            own = (sha for index, sha in enumerate(shas) if index // COMMITS_PER_BLOCK % workers == number)
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
        """The raw text of the next commit; call `patch` before the next call.

        Raises:
            Unreadable: the repository changed since its commits were listed.
        """
        return self._objects.next()

    def patch(self) -> Iterator[bytes]:
        """Yield the patch of the commit last returned by `commit`, in pieces that end between files.

        Raises:
            Unreadable: an object is missing or corrupt; the stream goes on with the next commit.
        """
        sha = self._shas[self._next]
        worker = self._workers[self._next // COMMITS_PER_BLOCK % len(self._workers)]
        self._next += 1
        retried = begun = False  # a process killed by a signal before it answered is started once more
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

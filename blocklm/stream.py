"""The patches and messages of many commits from few git processes that live long.

A process per commit costs ten times what its diff costs: packs are opened and delta caches filled anew each time. Here
`git diff-tree --stdin` and `git cat-file --batch` read commit names from a pipe and answer in order, one diff process
per core, each working ahead as far as its pipe holds.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from blocklm.git_process import GitProcess, Unreadable

# Small blocks keep all processes busy, and enough of them that none waits while Python is at something else; but the names
# in flight (41 bytes each) must fit into a pipe of 64 KiB, or writing them would block.
COMMITS_PER_BLOCK = 32
BLOCKS_AHEAD = 6
# From here on a commit's patch is handed out file by file instead of whole.
PIECE_BYTES = 4 << 20
# diff-tree echoes a line that is no object name: it says that the patch before it is complete. No line of a patch begins
# with a full stop (` +-\@` in hunks, keywords in headers; paths with a newline are quoted).
END = b".\n"
DIFF_TREE = (
    "diff-tree", "--stdin", "--always", "-r", "--root", "-M", "-p", "--full-index", "--no-ext-diff", "--no-textconv",
    "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


class _CommitObjects(GitProcess):
    """Answers with the raw text of commits."""

    def __init__(self, environment: dict[str, str]) -> None:
        super().__init__(("cat-file", "--batch"), environment)

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

    def __init__(self, environment: dict[str, str], context_lines: int) -> None:
        super().__init__((*DIFF_TREE, f"-U{context_lines}"), environment)

    def ask(self, shas: Sequence[str]) -> None:
        """Request the patches of these commits."""
        self.feed(b"".join(sha.encode() + b"\n" + END for sha in shas))

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


@dataclass
class _Block:
    """Commits asked of one process, and those of them that it still owes."""

    worker: int
    shas: list[str]


class PatchStream:
    """Commit texts and patches of `shas`, in their order; a context manager that leaves no process behind."""

    def __init__(self, environment: dict[str, str], shas: Sequence[str], context_lines: int, workers: int) -> None:
        self._environment = environment
        self._context_lines = context_lines
        self._waiting = iter([shas[at : at + COMMITS_PER_BLOCK] for at in range(0, len(shas), COMMITS_PER_BLOCK)])
        self._blocks: deque[_Block] = deque()
        self._stack = ExitStack()
        self._objects = _CommitObjects(environment)
        self._stack.callback(self._objects.close)
        self._workers = [self._start() for _ in range(workers)]
        self._turn = itertools.cycle(range(workers))
        for _ in range(BLOCKS_AHEAD * workers):
            self._ask()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        for process in self._workers:
            process.close()

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
        block = self._blocks[0]
        retried = begun = False  # a process killed by a signal before it answered gets a second chance
        try:
            while True:
                try:
                    for piece in self._workers[block.worker].next(block.shas[0]):
                        begun = True
                        yield piece
                    return
                except Unreadable as failure:
                    retried, again = True, failure.killed and not (retried or begun)
                    self._replace(block.worker, behind=0 if again else 1)
                    if not again:
                        raise
        finally:
            block.shas.pop(0)
            if not block.shas:
                self._blocks.popleft()
                self._ask()

    def _start(self) -> _Patches:
        return _Patches(self._environment, self._context_lines)

    def _ask(self) -> None:
        shas = next(self._waiting, None)
        if shas is None:
            return
        worker = next(self._turn)
        self._objects.feed(b"".join(sha.encode() + b"\n" for sha in shas))
        self._workers[worker].ask(shas)
        self._blocks.append(_Block(worker, list(shas)))

    def _replace(self, worker: int, behind: int) -> None:
        """Give what a dead process still owed to a new one, but for the first `behind` commits."""
        self._workers[worker].close()
        self._workers[worker] = self._start()
        owed = [sha for block in self._blocks if block.worker == worker for sha in block.shas]
        self._workers[worker].ask(owed[behind:])

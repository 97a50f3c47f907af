"""The patches and messages of many commits from few git processes that live long.

A process per commit costs ten times what its diff costs: packs are opened and delta caches filled anew each time. Here
`git diff-tree --stdin` and `git cat-file --batch` read commit names from a pipe and answer in order, one diff process
per core, each working ahead as far as its pipe holds.
"""

import fcntl
import itertools
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

# Small blocks keep all processes busy, and enough of them that none waits while Python is at something else; but the names
# in flight (41 bytes each) must fit into a pipe of 64 KiB, or writing them would block.
COMMITS_PER_BLOCK = 32
BLOCKS_AHEAD = 6
READ_BYTES = 1 << 20
# From here on a commit's patch is handed out file by file instead of whole.
PIECE_BYTES = 4 << 20
# diff-tree echoes a line that is no object name: it says that the patch before it is complete. No line of a patch begins
# with a full stop (` +-\@` in hunks, keywords in headers; paths with a newline are quoted).
END = b".\n"
DIFF_TREE = (
    "diff-tree", "--stdin", "--always", "-r", "--root", "-M", "-p", "--full-index", "--no-ext-diff", "--no-textconv",
    "--no-color", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip


# glibc returns each large buffer to the kernel and asks for it again: a tenth of git's time goes into empty pages.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_TOP_PAD_": str(1 << 24),
}


class Unreadable(Exception):
    """Git ended at a commit whose objects are missing or corrupt; the text is git's own."""


class _Process:
    """A git process fed and read through pipes; its output gathers in `buffer`, read up to `position`."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`; a pipe nobody reads would block git)
        self._process = subprocess.Popen(
            ["git", *arguments],
            env=environment | KEEP_MEMORY,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        with suppress(AttributeError, OSError):  # Linux only: lets git run ahead while Python parses
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, READ_BYTES)
        self.buffer = bytearray()
        self.position = 0

    def feed(self, lines: bytes) -> None:
        """Ask; a process that has ended is noticed when its answer is read."""
        with suppress(BrokenPipeError):
            while lines:
                lines = lines[os.write(self._input.fileno(), lines) :]

    def fill(self) -> None:
        """Read more into the buffer, which may move: only offsets from `position` stay valid.

        Raises:
            Unreadable: the process has ended.
        """
        if self.position > READ_BYTES:
            del self.buffer[: self.position]
            self.position = 0
        data = os.read(self._output.fileno(), READ_BYTES)
        if not data:
            self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().decode("utf-8", "replace")
            raise Unreadable(" ".join(said.split())[-300:] or f"git ended with code {self._process.returncode}")
        self.buffer += data

    def take(self, start: int, end: int) -> bytes:
        """Copy out what lies between two offsets from `position`."""
        with memoryview(self.buffer) as view:
            return bytes(view[self.position + start : self.position + end])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()


class _CommitObjects(_Process):
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


class _Patches(_Process):
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
        sha = block.shas.pop(0)
        try:
            yield from self._workers[block.worker].next(sha)
        except Unreadable:
            self._replace(block.worker)
            raise
        finally:
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

    def _replace(self, worker: int) -> None:
        """Give what a dead process still owed to a new one."""
        self._workers[worker].close()
        self._workers[worker] = self._start()
        for block in self._blocks:
            if block.worker == worker:
                self._workers[worker].ask(block.shas)

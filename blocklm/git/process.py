"""One git process that answers the many questions of a file."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

READ_BYTES = 1 << 20
# glibc returns each large buffer to the kernel and asks for it again: a tenth of git's time goes into empty pages.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_TOP_PAD_": str(1 << 24),
}


class Unreadable(Exception):
    """Git ended at a commit, as it does where objects are missing or corrupt; the text is git's own.

    `killed` says that it was a signal that ended it, which tells nothing about the commit.
    """

    def __init__(self, text: str, killed: bool = False) -> None:
        super().__init__(text)
        self.killed = killed


class GitProcess:
    """A git process whose output gathers in `buffer`, read up to `position`.

    It reads its questions from the file `questions`, from the offset `skip` on. With a pipe each side could wait for the
    other: git for room to answer, we for room to ask.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], questions: Path, skip: int = 0) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`; a pipe nobody reads would block git)
        asked = os.open(questions, os.O_RDONLY)
        os.lseek(asked, skip, os.SEEK_SET)
        self._process = subprocess.Popen(
            ["git", *arguments],
            env=environment | KEEP_MEMORY,
            cwd="/",
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        os.close(asked)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        with suppress(AttributeError, OSError):  # Linux only: lets git run ahead while Python parses
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, READ_BYTES)
        self.buffer = bytearray()
        self.position = 0

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
            code = self._process.returncode
            raise Unreadable(" ".join(said.split())[-300:] or f"git ended with code {code}", killed=code < 0)
        self.buffer += data

    def take(self, start: int, end: int) -> bytes:
        """Copy out what lies between two offsets from `position`."""
        with memoryview(self.buffer) as view:
            return bytes(view[self.position + start : self.position + end])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._output.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

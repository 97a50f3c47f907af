"""A long-lived git process that reads its input from a file."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

READ_BYTES = 1 << 20
# glibc returns each large buffer to the kernel and requests it again: a tenth of git's time goes into clearing pages.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_TOP_PAD_": str(1 << 24),
}


class Unreadable(Exception):
    """Git ended at a commit, mostly because objects are missing or corrupt; the text is git's own.

    Args:
        text: git's error output.
        killed: whether a signal ended git, so that the commit itself may be readable.
    """

    def __init__(self, text: str, killed: bool = False) -> None:
        super().__init__(text)
        self.killed = killed


class GitProcess:
    """A git process whose output gathers in `buffer`, of which `position` bytes are consumed.

    Its input is a file, because with two pipes both sides could wait for each other: git until its output is read, we
        until
    our input is read.

    Args:
        arguments: git's command line.
        environment: git's environment variables.
        questions: file with git's input.
        skip: offset of the first byte of the file that git reads.
    """

    def __init__(self, arguments: Sequence[str], environment: dict[str, str], questions: Path, skip: int = 0) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`; a full pipe would block git)
        input_file = os.open(questions, os.O_RDONLY)
        os.lseek(input_file, skip, os.SEEK_SET)
        self._process = subprocess.Popen(
            ["git", *arguments],
            env=environment | KEEP_MEMORY,
            cwd="/",
            stdin=input_file,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        os.close(input_file)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        with suppress(AttributeError, OSError):  # Linux only: a larger pipe lets git run ahead while Python parses
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
            errors = self._errors.read().decode("utf-8", "replace")
            code = self._process.returncode
            raise Unreadable(" ".join(errors.split())[-300:] or f"git ended with code {code}", killed=code < 0)
        self.buffer += data

    def take(self, start: int, end: int) -> bytes:
        """A copy of the bytes between two offsets from `position`."""
        with memoryview(self.buffer) as view:
            return bytes(view[self.position + start : self.position + end])

    def close(self) -> None:
        """Kill the process and close its files."""
        self._output.close()
        self._process.kill()
        self._process.wait()
        self._errors.close()

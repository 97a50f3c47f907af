"""Locks a run directory for one run at a time; the lock is released however its process ends."""

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blocklm.errors import UserError

LOCK = ".lock"

logger = logging.getLogger(__name__)


@contextmanager
def sole_run(run_dir: Path) -> Iterator[None]:
    """Lock a run directory against other runs until the block ends.

    Of the processes of one distributed run the first locks it for all. The lock is the kernel's and belongs to this
    process alone: a worker that outlives it does not keep the lock.

    Raises:
        UserError: another run has the lock.
    """
    if not is_first_process():
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise UserError(
                    f"another run is at work in `{run_dir}`, as process {file.read().strip() or 'unknown'}",
                    "wait until it ends, or give another `--output_dir`",
                ) from None
            logger.warning("`%s` cannot be locked (%s): start no second run in it", run_dir, error)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def is_first_process() -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0

"""Runs scripts in a terminal: shows our messages, errors in two lines, and sets the exit code."""

import argparse
import errno
import io
import locale
import logging
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from blocklm.errors import UserError
from blocklm.interrupts import Interrupted, Interrupts

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors and torch write through Rust and C++, whose errors have no errno.
DISK_FULL_WORDS = ("No space left on device", "File too large", "Disk quota exceeded", "file write failed")


class CommandLine(argparse.ArgumentParser):
    """The flags of a script, none of which may be shortened; bad flags raise a `UserError`.

    Args:
        description: what the script does, with examples.
        beside_recipe: whether a recipe and its keys are parsed afterwards, from what `parse_known_args` leaves; their
            help then follows this one's.
    """

    def __init__(self, description: str | None, beside_recipe: bool = False) -> None:
        super().__init__(
            description=description,
            usage=argparse.SUPPRESS if beside_recipe else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=not beside_recipe,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`."""
        raise UserError(re.sub(r"^argument ([^:]+): ", r"`\1` ", message), "`--help` lists every flag with its value")


@contextmanager
def console(resumes: bool = True) -> Iterator[Interrupts]:
    """Run a script's `main` in this context: log to stderr, and show a `UserError` in two lines with exit code 2.

    With `--quiet` on the command line, only results, warnings and errors are shown. Any other error is a bug of ours
    and keeps its traceback. After a signal the exit code is 128 plus its number.

    Args:
        resumes: whether the same command, run again, resumes the interrupted work.
    """
    speak_utf8()
    os.umask(os.umask(0o077) & 0o077)  # files that we write must be readable for us
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    quiet = "--quiet" in sys.argv
    if quiet:  # not a key of a recipe, so that an interrupted run can be resumed with or without it
        sys.argv.remove("--quiet")
        os.environ["TQDM_DISABLE"] = "1"  # read when the first of the libraries imports tqdm
    logging.getLogger("blocklm").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of an optional kernel at every import
    logging.getLogger("bm25s").disabled = True  # it sets itself to DEBUG when it is imported
    # The pinned libraries warn of coming renames (`gradient_checkpointing`), about which a user can do nothing.
    warnings.simplefilter("ignore", FutureWarning)
    threading.excepthook = _report_thread_error
    if isinstance(sys.stdout, io.TextIOWrapper):  # a locale may lack a character that a model wrote
        sys.stdout.reconfigure(errors="backslashreplace")
    interrupts = Interrupts()
    interrupts.install()
    try:
        yield interrupts
    except UserError as error:
        _end(str(error), error.hint)
    except Interrupted as interrupted:
        sys.stderr.write(
            "interrupted: the same command again takes up where this left off\n" if resumes else "\ninterrupted\n"
        )
        raise SystemExit(interrupted.exit_code) from None
    except BrokenPipeError:  # the reader of our output has ended, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes the rest at exit
        raise SystemExit(128 + signal.SIGPIPE) from None
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        _end(str(error), "check `output_dir` and `corpus_dir`: both must be folders that you may write to")
    except Exception as error:
        if not _disk_full(error):
            raise
        _end(
            f"the disk is full: {error}",
            "free some space and run the same command again"
            + (": it resumes from the last complete checkpoint" if resumes else ""),
        )


def speak_utf8() -> None:
    """Restart this process in Python's UTF-8 mode if the locale has another encoding.

    Otherwise paths, standard streams and files that a library opens without an encoding would use the locale's.
    """
    if sys.flags.utf8_mode or locale.getencoding().lower() in ("utf-8", "utf8"):
        return
    os.environ["PYTHONUTF8"] = "1"
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _report_thread_error(failure: threading.ExceptHookArgs) -> None:
    """Show an error in a thread, except that of a full disk, which the main thread reports."""
    if not _disk_full(failure.exc_value):
        threading.__excepthook__(failure)


def _end(message: str, hint: str) -> None:
    sys.stderr.write(f"error: {message}\nhint: {hint}\n")
    raise SystemExit(2) from None


def _disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return True
        if any(words in str(error) for words in DISK_FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False

"""What a person at the terminal sees: our own messages, errors in two lines, exit codes a shell understands."""

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
# safetensors and torch write through Rust and C++ and say the same in words of their own.
DISK_FULL_WORDS = ("No space left on device", "File too large", "Disk quota exceeded", "file write failed")


class CommandLine(argparse.ArgumentParser):
    """The flags of a script, none of which may be shortened; bad flags raise a `UserError`.

    Args:
        description: what the script does, with examples.
        beside_recipe: whether a recipe and its keys are read after it: `parse_known_args` leaves them, and
            `format_help` goes before their help.
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
    """Run a script's `main`: logs go to stderr, and a user's error is shown as `error:` and `hint:`, with exit code 2.

    With `--quiet` on the command line only results, warnings and errors are seen, no progress.
    Anything else is a fault of ours and keeps its traceback. Signals end in 128 plus their number.

    Args:
        resumes: whether the same command, run again, resumes the interrupted work.
    """
    speak_utf8()
    os.umask(os.umask(0o077) & 0o077)  # what we write we must be able to read, whatever the user's mask is
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    quiet = "--quiet" in sys.argv
    if quiet:  # of every script, and no key of a recipe: a run may be resumed in silence
        sys.argv.remove("--quiet")
        os.environ["TQDM_DISABLE"] = "1"  # read when the first of the libraries imports tqdm
    logging.getLogger("blocklm").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of an optional kernel at every import
    logging.getLogger("bm25s").disabled = True  # it sets itself to DEBUG when it is imported
    # The pinned stack warns of renames to come (`gradient_checkpointing`); they are ours to follow, not the user's.
    warnings.simplefilter("ignore", FutureWarning)
    threading.excepthook = _in_thread
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr does: a locale may lack a character that a model wrote
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
    except BrokenPipeError:  # whoever read our output wants no more of it: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed at the end
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

    Paths, standard streams and every file that a library opens without an encoding would be read as the locale says.
    """
    if sys.flags.utf8_mode or locale.getencoding().lower() in ("utf-8", "utf8"):
        return
    os.environ["PYTHONUTF8"] = "1"
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _in_thread(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; of a full disk the main one says enough."""
    if not _disk_full(failed.exc_value):
        threading.__excepthook__(failed)


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

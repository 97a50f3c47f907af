"""What the user can mend: one line that names the cause, one that names the remedy."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Input that cannot be worked with; `hint` says what to change."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with `error:` and `hint:` on stderr and exit code 2 instead of a traceback.

    Only `UserError` is caught: anything else is a fault of ours and keeps its traceback.
    """
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {error}\nhint: {error.hint}\n")
        raise SystemExit(2) from None

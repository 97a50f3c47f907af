"""Programs that some tests need: without one a test is skipped and names the way to get it; in CI it fails."""

import os
import shutil
from typing import NoReturn

import pytest


def do_without(program: str, package: str) -> NoReturn:
    """Skip a test that needs a missing program; fail it in CI.

    Args:
        program: name of the program, for people.
        package: Debian's package that has it.
    """
    reason = f"{program} is not there: `apt-get install {package}`"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def need(program: str, package: str) -> None:
    """Skip the test unless the program is on the path."""
    if shutil.which(program) is None:
        do_without(program, package)

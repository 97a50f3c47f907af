"""Tests of the sandbox need bubblewrap."""

import pytest

from tests.support.programs import need


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """There, or the test is skipped."""
    need("bwrap", "bubblewrap")

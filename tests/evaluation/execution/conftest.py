"""Tests of the sandbox need bubblewrap."""

import pytest

from tests.support.programs import need


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Skip the test unless bubblewrap is installed."""
    need("bwrap", "bubblewrap")

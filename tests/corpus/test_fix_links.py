"""A fix is recognised by the lines that it removes, who added them, and its commit message."""

import pytest

from blocklm.corpus.fix_links import FixLinker, reason_of_revert

ADDED = ["+    total = sum(prices) * discount", "+    return round(total, 2)"]
FIXED = ["-    total = sum(prices) * discount", "+    total = sum(prices) * (1 - discount)"]


def origin(
    message: str = "Fix the wrong discount", day: float = 10.0, path: str = "a.py", commit: str = "two"
) -> int | None:
    repairs = FixLinker()
    assert repairs.origin(0, "one", 0.0, "a.py", "Add the shop", ADDED) is None
    return repairs.origin(1, commit, day, path, message, FIXED)


def test_a_fix_of_recent_lines_is_linked_to_the_commit_that_added_them() -> None:
    assert origin() == 0


@pytest.mark.parametrize(
    "changed",
    [{"message": "Rename the discount"}, {"message": "fix"}, {"day": 200.0}, {"path": "b.py"}, {"commit": "one"}],
)
def test_other_changes_are_no_fix(changed: dict[str, str | float]) -> None:
    assert origin(**changed) is None  # type: ignore[arg-type]


def test_the_reason_of_a_revert_is_read_from_its_message() -> None:
    message = 'Revert "Add the shop"\n\nThis reverts commit 1234567890.\nIt broke the checkout of guests.'
    assert reason_of_revert(message) == "It broke the checkout of guests."
    assert reason_of_revert('Revert "Add the shop"\n\nThis reverts commit 1234567890.') == ""

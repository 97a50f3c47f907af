"""Fixes and reverts that follow a commit are found in the history, as far as it is known at that time."""

from collections.abc import Callable
from pathlib import Path

from blocklm.assistant.review.followups import FIXED, REVERTED, followups_of
from tests.conftest import GitRepository, changes_of, function

RIGHT, WRONG = "total = sum(prices) * (1 - discount)", "total = sum(prices) * discount * 100"


def test_fixes_and_reverts_are_found_in_their_order(
    make_repository: Callable[[str], GitRepository], tmp_path: Path
) -> None:
    repository = make_repository("shop")
    other = repository.commit("Add a step to the house", {"src/steps.py": function(1)})
    wrong = repository.commit(
        "Add the discount of today", {"src/shop.py": function(2, WRONG), "src/till.py": function(3)}
    )
    fix = repository.commit("Fix the wrong discount of today (#7)", {"src/shop.py": function(2, RIGHT)})
    repository.commit(
        "Rename what the till returns to us", {"src/till.py": function(3, "return the_value_of_the_till")}
    )
    taken_back = f'Revert "Add the discount of today"\n\nThis reverts commit {wrong}.'
    revert = repository.commit(taken_back, {"src/shop.py": None, "src/till.py": None})
    dataset = changes_of(repository.path, tmp_path / "corpora").dataset

    found = followups_of(dataset, [wrong, other])
    assert [(then.kind, then.commit, then.subject) for then in found[wrong]] == [
        (FIXED, fix, "Fix the wrong discount of today (#7)"),
        (REVERTED, revert, 'Revert "Add the discount of today"'),
    ]
    assert {then.day.isoformat() for then in found[wrong]} == {"2023-11-14"}
    assert other not in found
    assert [then.kind for then in followups_of(dataset, [wrong], before=3)[wrong]] == [FIXED]
    assert followups_of(dataset, [wrong], before=2) == {}

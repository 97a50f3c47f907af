"""Commits land where the merge that brought them lands."""

from blocklm.corpus.landing_order import landing_positions

# main: a - b ------- m - d; a pull request of x and y, which merged b once, came in with m.
HISTORY = [("a", []), ("b", ["a"]), ("x", ["a"]), ("s", ["x", "b"]), ("y", ["s"]), ("m", ["b", "y"]), ("d", ["m"])]


def test_a_pull_request_lands_with_its_merge() -> None:
    padding = [(f"p{at}", [f"p{at - 1}"] if at else ["d"]) for at in range(40)]
    places = landing_positions([*HISTORY, *padding])
    assert places[:7] == [0, 1, 5, 5, 5, 5, 6]
    assert places[7:] == list(range(7, 47))


def test_a_long_branch_is_not_moved_to_its_merge() -> None:
    branch = [(f"x{at}", [f"x{at - 1}"] if at else ["a"]) for at in range(30)]
    history = [("a", []), ("b", ["a"]), *branch, ("m", ["b", "x29"])]
    assert landing_positions(history) == list(range(33))


def test_several_roots_and_absent_parents_are_accepted() -> None:
    assert landing_positions([("a", ["gone"]), ("z", []), ("b", ["a"])]) == [0, 1, 2]
    assert landing_positions([]) == []

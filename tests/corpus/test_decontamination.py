"""Lines that occur in other texts are found, whatever white space is around them."""

import numpy as np
import pytest

from blocklm.corpus.decontamination import Lines

TEXTS = ["one\n  two\nthree", "two\t\nfour", "", "  one", "four\n\nfive\nat"]


def mask(*chosen: int) -> np.ndarray:
    return np.isin(np.arange(len(TEXTS)), chosen)


@pytest.mark.parametrize(
    ("taught", "asked", "expected"),
    [
        ([0], [1, 2, 3], [(1, True), (1, False), (3, True)]),
        ([0, 1], [4], [(4, True), (4, False)]),
        ([], [0], [(0, False)] * 3),
        ([0], [], []),
    ],
)
def test_repeated_lines_of_a_subset_are_found_in_another(
    taught: list[int], asked: list[int], expected: list[tuple[int, bool]]
) -> None:
    texts, seen = Lines(TEXTS).find_repeated(mask(*taught), mask(*asked), min_chars=3)
    assert list(zip(texts.tolist(), seen.tolist(), strict=True)) == expected


def test_an_empty_text_has_no_lines() -> None:
    texts, seen = Lines([]).find_repeated(np.empty(0, bool), np.empty(0, bool), 1)
    assert (len(texts), len(seen)) == (0, 0)

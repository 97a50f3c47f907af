"""Which lines of some texts stand word for word in others, but for the white space around them."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

Chosen = NDArray[np.bool_]


class Lines:
    """The lines of many texts, equal ones under one number, so that texts can be compared again and again.

    Args:
        texts: what to compare; where a text is chosen below, it is by its place here.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        numbers: defaultdict[str, int] = defaultdict()
        numbers.default_factory = numbers.__len__
        lines = chain.from_iterable(text.split("\n") for text in texts)
        self._number = np.fromiter(map(numbers.__getitem__, map(str.strip, lines)), np.int64)
        self._chars = np.fromiter(map(len, numbers), np.int64, len(numbers))
        self._text = np.repeat(np.arange(len(texts)), [text.count("\n") + 1 for text in texts])

    def standing_in(self, taught: Chosen, asked: Chosen, min_chars: int) -> tuple[NDArray[np.int64], Chosen]:
        """For each line of the texts asked that is not too short: its text, and whether it stands in a text taught."""
        known = np.zeros(len(self._chars), bool)
        known[self._number[taught[self._text]]] = True
        lines = np.flatnonzero(asked[self._text] & (self._chars[self._number] >= min_chars))
        return self._text[lines], known[self._number[lines]]

"""What validation and test ask, so that no file of the training's end gives it away."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from blocklm.corpus.sample_weights import long_lines

SHARE, MIN_LINES = 0.7, 3


class Asked:
    """The added lines of what validation and test ask."""

    def __init__(self) -> None:
        self._asked_in: defaultdict[str, list[int]] = defaultdict(list)
        self._sizes: list[int] = []

    def add(self, lines: Sequence[str]) -> None:
        """Remember one hunk that is asked."""
        telling = set(long_lines(lines))
        for line in telling:
            self._asked_in[line].append(len(self._sizes))
        self._sizes.append(len(telling))

    def known_lines(self, text: str) -> frozenset[str]:
        """The lines of those asked hunks of which a whole file holds most."""
        here = {line.strip() for line in text.split("\n")}
        found = Counter(hunk for line in here for hunk in self._asked_in.get(line, ()))
        known = {hunk for hunk, count in found.items() if count >= max(MIN_LINES, SHARE * self._sizes[hunk])}
        return frozenset(line for line in here if known.intersection(self._asked_in.get(line, ())))


def gives_away(piece: str, known: frozenset[str]) -> bool:
    """Whether a piece of a file holds enough of what is asked of it."""
    return sum(line.strip() in known for line in piece.split("\n")) >= MIN_LINES

"""What validation and test ask, so that no file of the training's end gives it away."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from blocklm.weights import long_lines

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

    def knows(self, text: str) -> bool:
        """Whether the text holds most of a hunk that is asked."""
        found = Counter(
            hunk for line in {line.strip() for line in text.split("\n")} for hunk in self._asked_in.get(line, ())
        )
        return any(count >= max(MIN_LINES, SHARE * self._sizes[hunk]) for hunk, count in found.items())

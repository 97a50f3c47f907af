"""Splits a unified diff into hunks, and compares their lines without white space."""

import re
from functools import cached_property

# With the line end before it, because a fixed text is found faster than the start of a line.
HEADER = "\n@@ "
ADDED, REMOVED = re.compile(r"\n\+(.*)"), re.compile(r"\n-(.*)")
WORD = re.compile(r"[^\W_]")
# The ASCII characters that `str.split` takes for white space.
WHITE_SPACE = b" \t\n\v\f\r\x1c\x1d\x1e\x1f"
MOVED_SHARE = 0.8
MIN_MOVED_LINES = 3
MIN_LINE_CHARS = 3  # shorter lines are mostly closing braces, which are everywhere


class Hunk:
    """One hunk with its header."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def added(self) -> list[str]:
        """The added lines without their marks."""
        return ADDED.findall(self._text)

    @cached_property
    def removed(self) -> list[str]:
        """The removed lines without their marks."""
        return REMOVED.findall(self._text)

    @property
    def lines(self) -> list[str]:
        """All lines, each with its mark: space, `+` or `-`."""
        return self._text.split("\n")[1:]

    @property
    def marked(self) -> list[tuple[str, str]]:
        """Mark and text of each line, without remarks on a missing newline."""
        return [(line[0], line[1:]) for line in self.lines if line and line[0] in " +-"]

    @property
    def added_text(self) -> bytes:
        """All added lines, without white space: equal texts have equal tokens."""
        return _without_white_space("".join(self.added))

    @property
    def removed_text(self) -> bytes:
        """All removed lines, without white space."""
        return _without_white_space("".join(self.removed))

    @property
    def whole_text(self) -> bytes:
        """All lines and their marks, without white space."""
        return _without_white_space(self._text.partition("\n")[2])

    @property
    def says_something(self) -> bool:
        """Whether it adds a letter or a digit."""
        return any(map(WORD.search, self.added))

    @property
    def is_format(self) -> bool:
        """Whether it changes nothing but white space."""
        return bool(self.removed) and self.added_text == self.removed_text

    def is_moved(self, removed: frozenset[str]) -> bool:
        """Whether the commit removed most of its lines elsewhere; lines removed in the same place are only indented."""
        if not removed or len(self.added) < MIN_MOVED_LINES:
            return False
        lines = [text for line in self.added if len(text := line.strip()) >= MIN_LINE_CHARS]
        enough = max(MIN_MOVED_LINES, MOVED_SHARE * len(lines))
        if sum(map(removed.__contains__, lines)) < enough:
            return False
        own = {line.strip() for line in self.removed}
        return sum(line in removed and line not in own for line in lines) >= enough


def hunks_of(diff: str) -> list[Hunk]:
    """Split a unified diff without file header into its hunks."""
    return [Hunk(text) for text in f"\n{diff}".removesuffix("\n").split(HEADER)[1:]]


def removed_lines(diffs: list[str]) -> frozenset[str]:
    """Every line that a commit's diffs remove, stripped, short ones left out."""
    return frozenset(
        text for diff in diffs for line in REMOVED.findall(diff) if len(text := line.strip()) >= MIN_LINE_CHARS
    )


def _without_white_space(text: str) -> bytes:
    if text.isascii():  # the common case, and three times as fast
        return text.encode().translate(None, WHITE_SPACE)
    return "".join(text.split()).encode("utf-8", "surrogatepass")

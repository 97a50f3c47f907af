"""The hunks of a unified diff, and what they say apart from white space."""

import re

HEADER = re.compile(r"^@@ .*\n?", re.MULTILINE)
REMOVED = re.compile(r"^-(.*)", re.MULTILINE)
WORD = re.compile(r"[^\W_]")
MOVED_SHARE = 0.8
MIN_MOVED_LINES = 3
MIN_LINE_CHARS = 3  # shorter lines, closing braces mostly, stand everywhere


class Hunk:
    """The lines of one hunk, each with its mark: space, `+` or `-`; `added` and `removed` are without it."""

    __slots__ = ("added", "lines", "removed")

    def __init__(self, body: str) -> None:
        self.lines = body.removesuffix("\n").split("\n")
        self.added = [line[1:] for line in self.lines if line[:1] == "+"]
        self.removed = [line[1:] for line in self.lines if line[:1] == "-"]

    @property
    def added_text(self) -> str:
        """All that is added, without white space: equal texts are equal token streams."""
        return "".join("".join(self.added).split())

    @property
    def removed_text(self) -> str:
        """All that is removed, without white space."""
        return "".join("".join(self.removed).split())

    @property
    def says_something(self) -> bool:
        """Whether it adds a letter or a digit."""
        return any(map(WORD.search, self.added))

    @property
    def is_format(self) -> bool:
        """Whether it changes nothing but white space."""
        return bool(self.removed) and self.added_text == self.removed_text

    def is_moved(self, removed: frozenset[str]) -> bool:
        """Whether most of its lines are among those that the commit removed, but elsewhere: these are only indented."""
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
    return [Hunk(body) for body in HEADER.split(diff)[1:]]


def removed_lines(diffs: list[str]) -> frozenset[str]:
    """Every line that a commit's diffs remove, stripped, short ones left out."""
    return frozenset(
        text for diff in diffs for line in REMOVED.findall(diff) if len(text := line.strip()) >= MIN_LINE_CHARS
    )

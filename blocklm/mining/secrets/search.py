"""Searches a text for all patterns of secrets at once: each is tried only where one of its words stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ahocorasick_rs import BytesAhoCorasick

from blocklm.mining.secrets.named import NAMED
from blocklm.mining.secrets.pattern import RANDOM_RUN, Pattern, has_random_value
from blocklm.mining.secrets.people import PEOPLE
from blocklm.mining.secrets.vendors import VENDORS


@dataclass(frozen=True, slots=True)
class _Group:
    """Patterns that are tried on the same lines, because their `words`, `lines` and `needs_run` are equal."""

    words: tuple[bytes, ...]
    lines: int
    needs_run: bool
    patterns: tuple[Pattern, ...]


def find_secrets(text: bytes) -> Iterator[tuple[re.Match[bytes], Pattern]]:
    """Yield the matches of all patterns that their guards accept, with the pattern of each.

    Args:
        text: text whose first and last bytes are line feeds, the last two of them.
    """
    groups = _groups()
    searched = [0] * len(groups)
    runs: dict[int, bool] = {}  # whether a line, by its start, has a run that may be random

    def has_run(start: int, end: int) -> bool:
        if start not in runs:
            runs[start] = RANDOM_RUN.search(text, start, end) is not None
        return runs[start]

    words, groups_of_word = _words()
    for number, position, _ in words.find_matches_as_indexes(text.lower().replace(b"@@", b"  "), overlapping=True):
        for which in groups_of_word[number]:
            if position < searched[which]:
                continue  # the line was searched for another word
            group, end = groups[which], text.find(b"\n", position)
            searched[which] = end
            start = text.rfind(b"\n", 0, position) + 1
            last = end if group.lines == 1 else text.find(b"\n", end + 1)
            if group.needs_run and not has_run(start, end) and not (last > end and has_run(end + 1, last)):
                continue  # the usual case, and much faster than trying the patterns
            for pattern in group.patterns:
                for match in pattern.regex.finditer(text, start, last):
                    if pattern.accepts(match):
                        yield match, pattern


@cache
def _groups() -> list[_Group]:
    alike: dict[tuple[tuple[bytes, ...], int, bool], list[Pattern]] = {}
    for pattern in (*VENDORS, *NAMED, *PEOPLE):
        alike.setdefault((pattern.words, pattern.lines, pattern.accepts is has_random_value), []).append(pattern)
    return [_Group(*shared, tuple(patterns)) for shared, patterns in alike.items()]


@cache
def _words() -> tuple[BytesAhoCorasick, list[list[int]]]:
    """The automaton of all words, and for each word the groups that need it on the line."""
    words = sorted({word for group in _groups() for word in group.words})
    needed_by = [[number for number, group in enumerate(_groups()) if word in group.words] for word in words]
    return BytesAhoCorasick(words), needed_by

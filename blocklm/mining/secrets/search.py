"""Searches a text for all patterns of secrets at once: each is tried only where one of its words stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from ahocorasick_rs import BytesAhoCorasick

from blocklm.mining.secrets.named import NAMED
from blocklm.mining.secrets.pattern import Pattern
from blocklm.mining.secrets.people import PEOPLE
from blocklm.mining.secrets.vendors import VENDORS


@dataclass(frozen=True, slots=True)
class _Group:
    """Patterns that are tried on the same lines, because their `words`, `needs` and `lines` are equal."""

    words: tuple[bytes, ...]
    needs: re.Pattern[bytes] | None
    lines: int
    patterns: tuple[Pattern, ...]


def find_secrets(text: bytes) -> Iterator[tuple[re.Match[bytes], Pattern]]:
    """Yield the matches of all patterns that their guards accept, with the pattern of each.

    Args:
        text: text whose first byte is a line feed.
    """
    groups = _groups()
    searched = [0] * len(groups)
    words, groups_of_word = _words()
    for number, position, _ in words.find_matches_as_indexes(text.lower().replace(b"@@", b"  "), overlapping=True):
        for which in groups_of_word[number]:
            if position < searched[which]:
                continue  # the line was searched for another word
            group, end = groups[which], text.find(b"\n", position)
            searched[which] = end
            start = text.rfind(b"\n", 0, position) + 1
            last = end if group.lines == 1 else text.find(b"\n", end + 1)
            if group.needs is not None and not group.needs.search(text, start, last):
                continue  # the usual case, and much faster than trying the patterns
            for pattern in group.patterns:
                for match in pattern.regex.finditer(text, start, last):
                    if pattern.accepts(match):
                        yield match, pattern


@cache
def _groups() -> list[_Group]:
    alike: dict[tuple[tuple[bytes, ...], re.Pattern[bytes] | None, int], list[Pattern]] = {}
    for pattern in (*VENDORS, *NAMED, *PEOPLE):
        alike.setdefault((pattern.words, pattern.needs, pattern.lines), []).append(pattern)
    return [_Group(*shared, tuple(patterns)) for shared, patterns in alike.items()]


@cache
def _words() -> tuple[BytesAhoCorasick, list[list[int]]]:
    """The automaton of all words, and for each word the groups that need it on the line."""
    words = sorted({word for group in _groups() for word in group.words})
    needed_by = [[number for number, group in enumerate(_groups()) if word in group.words] for word in words]
    return BytesAhoCorasick(words), needed_by

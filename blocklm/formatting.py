"""Formats numbers, sizes, times and foreign text for people."""

import math
import re
from datetime import datetime
from typing import Any

MIB = 1 << 20
GIB = 1 << 30
# Control characters except line ends and tabs, characters that change the direction of text (CVE-2021-42574), line
# separators that editors treat differently, characters without width, tags, and lone surrogates, which cannot be
# written.
UNSAFE = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def count(number: float) -> str:
    """Format a number without decimals, with separators between thousands: 12,345."""
    return f"{number:,.0f}"


def signed(percent: float) -> str:
    """Format a change in percent, with its sign."""
    return f"{percent:+.1f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def figure(value: Any) -> str:
    """Format a measured number with four significant digits, None as a dash, and any other value unchanged."""
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def size(number: float) -> str:
    """Format a number of bytes in GiB, MiB or KiB."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number:.0f} bytes"


def gib(number: float) -> str:
    """Format a number of bytes in GiB with two decimals, for comparison with others."""
    return f"{number / GIB:.2f} GiB"


def duration(seconds: float) -> str:
    """Format seconds as seconds, minutes or hours, by their size."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes} min {left:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def day(moment: str | None) -> str:
    """Format a time in ISO 8601 as its day, and None as a dash."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d}" if moment else "\N{EN DASH}"


def printable(text: str) -> str:
    r"""Replace each character that is invisible or controls the terminal by an escape such as `\x1b`."""
    return UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def plural(number: float, noun: str) -> str:
    """Format a number with its noun: `1 commit`, `2 commits`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"

"""What the pages of a report are made of: tables, charts and texts, with their numbers as a person reads them."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GIB = 1 << 30
Point = tuple[float, float]
# How the name of a series says its unit.
UNITS = {
    "_percent": "%", "_mib_per_s": "MiB/s", "_mib": "MiB", "_gib": "GiB", "_mhz": "MHz", "_wh": "Wh", "_c": "°C", "_w": "W",
    "_seconds": "s",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of a table: its cells, and how long its bar is, from 0 to 1; None for a row without one."""

    cells: tuple[str, ...]
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """A caption, the names of the columns and the rows; the columns named in `numeric` stand right-aligned."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A named series of points; `marked` draws each of them."""

    name: str
    points: tuple[Point, ...]
    marked: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over one axis."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    across: str = "step"


@dataclass(frozen=True)
class Specimen:
    """Texts of one item side by side: what was asked, what came or should have come.

    `texts` are (label, pieces), a piece being (text, whether it is what counts in it).
    """

    title: str
    about: str
    texts: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]


def count(number: float) -> str:
    """Thousands apart: 12,345."""
    return f"{number:,.0f}"


def signed(percent: float) -> str:
    """A change in percent, with a true minus sign."""
    return f"{percent:+.1f}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def figure(value: Any) -> str:
    """A measured number with four digits that count, thousands apart; anything else as it is; a dash for None."""
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
    """Bytes as GiB, MiB or KiB."""
    for unit, factor in (("GiB", GIB), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.4g} {unit}"
    return f"{number:.0f} bytes"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def day(moment: str | None) -> str:
    """The day of a time in ISO 8601."""
    return f"{datetime.fromisoformat(moment):%Y-%m-%d}" if moment else "\N{EN DASH}"


def named(series: str) -> tuple[str, str]:
    """The name of a series in words, and the unit that stands at its end."""
    ending = next((end for end in UNITS if series.endswith(end)), "")
    return series.removesuffix(ending).replace("_", " ").replace("/", " "), UNITS.get(ending, "")


def plural(number: float, noun: str) -> str:
    """`1 commit`, `2 commits`."""
    return f"{count(number)} {noun}" if number == 1 else f"{count(number)} {noun}s"

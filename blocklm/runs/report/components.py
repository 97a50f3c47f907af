"""What the pages of a report are made of: tables, charts and texts, with their numbers as a person reads them."""

from dataclasses import dataclass

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
class Example:
    """Texts of one item side by side: what was asked, what came or should have come.

    `texts` are (label, pieces), a piece being (text, whether it is what counts in it).
    """

    title: str
    about: str
    texts: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]


def named(series: str) -> tuple[str, str]:
    """The name of a series in words, and the unit that stands at its end."""
    ending = next((end for end in UNITS if series.endswith(end)), "")
    return series.removesuffix(ending).replace("_", " ").replace("/", " "), UNITS.get(ending, "")

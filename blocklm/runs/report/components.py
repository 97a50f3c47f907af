"""Defines the parts of a report: tables, charts and example texts, with numbers formatted for people."""

from dataclasses import dataclass

Point = tuple[float, float]
# Units, by the ending of a series' name.
UNITS = {
    "_percent": "%", "_mib_per_s": "MiB/s", "_mib": "MiB", "_gib": "GiB", "_mhz": "MHz", "_wh": "Wh", "_c": "°C",
    "_w": "W", "_seconds": "s",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, and the length of its bar from 0 to 1; None for a row without a bar."""

    cells: tuple[str, ...]
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """A table; `numeric` holds the indices of the columns that are aligned right, and `note` is shown below it."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A named series of points; if `marked`, each point gets a mark."""

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
    """Texts of one item, shown side by side: its prompt, the truth, and what a model wrote.

    `texts` holds pairs of label and pieces; a piece is a text and whether it is highlighted because it is scored.
    """

    title: str
    about: str
    texts: tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]


def name_and_unit(series: str) -> tuple[str, str]:
    """Split the name of a series into its words and its unit."""
    suffix = next((suffix for suffix in UNITS if series.endswith(suffix)), "")
    return series.removesuffix(suffix).replace("_", " ").replace("/", " "), UNITS.get(suffix, "")

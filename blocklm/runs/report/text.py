"""Formats tables of the report as plain text, for the terminal and the model card."""

from blocklm.runs.report.components import Table


def text_lines(table: Table) -> list[str]:
    """Format a table as its caption and aligned columns, without its note."""
    rows = [table.head, *(row.cells for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [table.caption, *(_line(row, widths, table.numeric) for row in rows)]


def _line(cells: tuple[str, ...], widths: list[int], numeric: tuple[int, ...]) -> str:
    aligned = [
        cell.rjust(width) if column in numeric else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"  {'  '.join(aligned)}".rstrip()

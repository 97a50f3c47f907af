"""Draws charts with matplotlib as inline SVG that uses the page's colours and has a text for screen readers.

matplotlib has no colour schemes, so each role is drawn in a placeholder colour that is used for nothing else, and the
placeholders are replaced by CSS variables in the SVG.
"""

import re
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from blocklm.formatting import figure, signed
from blocklm.runs.report.components import Chart, Line
from blocklm.runs.report.series import thin

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
# The style sheet's variable for each role, and the placeholder colour that it is drawn in.
ROLES = ("text", "muted", "line", "good", "bad", "series-1", "series-2", "series-3", "series-4", "series-5")
COLOUR = {role: f"#0000{number:02x}" for number, role in enumerate(ROLES, start=1)}
PLACEHOLDER = re.compile(r"#0000([0-9a-f]{2})\b")
DASHES, MARKERS = ("-", "--", "-.", ":", (0, (6, 2, 1, 2))), "os^Dv"  # so that series also differ without colour
POINT = 1 / 72  # inches
WIDTH = 340 * POINT
ITEMS_DRAWN = 1000
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text can be read aloud, searched and copied
    "path.simplify": True,
    "font.size": 11,
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.6,
    "text.color": COLOUR["text"],
    "text.parse_math": False,  # a dollar sign in a name does not begin a formula
    "xtick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.color": COLOUR["line"],
    "ytick.labelcolor": COLOUR["muted"],
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
}
Comparison = tuple[str, float, float, float]


def line_chart(chart: Chart) -> Markup:
    """Draw series over the steps of a run."""
    with rc_context({**STYLE, "svg.hashsalt": chart.title}):
        drawing, axes = _axes(200 * POINT)
        for index, line in enumerate(chart.lines):
            xs, ys = zip(*thin(line.points), strict=True)
            marker = MARKERS[index % 5] if line.marked or len(xs) < 3 else None
            axes.plot(
                xs,
                ys,
                label=line.name,
                color=COLOUR[f"series-{index % 5 + 1}"],
                linestyle=DASHES[index % 5],
                marker=marker,
                ms=4.5,
            )
        axes.set_xlabel(chart.across)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: figure(value)))
        axes.margins(x=0.02)
        if len(chart.lines) > 1:
            axes.legend(loc="best", fontsize=10)
        return _svg(drawing, chart.title, describe(chart))


def describe(chart: Chart) -> str:
    """Describe a chart in words, for screen readers."""
    return f"{chart.title}. " + " ".join(_describe_line(line, chart) for line in chart.lines)


def _describe_line(line: Line, chart: Chart) -> str:
    (first, start), (last, end) = line.points[0], line.points[-1]
    (step_of_least, least), (step_of_most, most) = (
        choose(line.points, key=lambda point: point[1]) for choose in (min, max)
    )
    unit = f" {chart.unit}" if chart.unit else ""
    return (
        f"{line.name}: {figure(start)}{unit} at {chart.across} {figure(first)}, {figure(end)} at {figure(last)}, "
        f"least {figure(least)} at {figure(step_of_least)}, most {figure(most)} at {figure(step_of_most)}."
    )


def interval_chart(comparisons: Sequence[Comparison]) -> Markup:
    """Draw each change in percent as a point on its 95 % interval, beside the line of no change."""
    with rc_context({**STYLE, "svg.hashsalt": "interval", "axes.grid.axis": "x", "axes.spines.left": False}):
        drawing, axes = _axes((46 + 44 * len(comparisons)) * POINT, 400 * POINT)
        axes.axvline(0, color=COLOUR["muted"], linewidth=1.2)
        for row, (name, change, low, high) in enumerate(comparisons):
            colour = COLOUR["good" if high < 0 else "bad" if low > 0 else "muted"]
            axes.plot([low, high], [-row, -row], color=colour, linewidth=5, solid_capstyle="round", alpha=0.55)
            axes.plot([change], [-row], color=colour, marker="o", markersize=9)
            label = f"{name}: {signed(change)}"
            axes.annotate(label, ((low + high) / 2, -row), (0, 10), textcoords="offset points", ha="center")
        axes.set_yticks([])
        axes.set_ylim(0.6 - len(comparisons), 0.95)
        axes.set_xlabel("change in bits per byte, % (left of 0 is better)")
        bounds = [0.0, *(bound for _, _, *interval in comparisons for bound in interval)]
        margin = 0.12 * (max(bounds) - min(bounds) or 1)
        axes.set_xlim(min(bounds) - margin, max(bounds) + margin)
        axes.tick_params(length=0)
        description = " ".join(
            f"{name}: {signed(change)}, from {signed(low)} to {signed(high)}."
            for name, change, low, high in comparisons
        )
        return _svg(drawing, "Change in bits per byte with its 95 % interval", description)


def items_chart(pairs: Sequence[tuple[float, float]]) -> Markup:
    """Draw each exam item as a mark: bits per byte of the base model across, of the tuned model up.

    Args:
        pairs: bits per byte of base and tuned model for each item, all larger than zero.
    """
    with rc_context({**STYLE, "svg.hashsalt": "items", "axes.grid.axis": "both"}):
        drawing, axes = _axes(385 * POINT, 400 * POINT)
        better = [pair for pair in pairs if pair[1] < pair[0]]
        others = [pair for pair in pairs if pair[1] >= pair[0]]
        low, high = (choose(value for pair in pairs for value in pair) for choose in (min, max))
        ends = (low / 1.15, high * 1.15)
        axes.plot(ends, ends, color=COLOUR["muted"], linewidth=1, linestyle="--")
        for name, group, role, marker in (("fewer bits", better, "good", "o"), ("no fewer", others, "bad", "^")):
            sample = group[:: max(1, -(-len(group) // ITEMS_DRAWN))]
            across, up = zip(*sample, strict=True) if sample else ((), ())
            label = f"{name} after training: {len(group)}"
            axes.plot(
                across, up, marker, color=COLOUR[role], markersize=5.5, alpha=0.75, markeredgewidth=0, label=label
            )
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: figure(value)))
            axis.set_minor_locator(NullLocator())
            axis.set_ticks([tick for tick in _ticks() if ends[0] <= tick <= ends[1]])
        axes.set_xlabel("base model, bits per byte")
        axes.set_ylabel("tuned model, bits per byte")
        axes.legend(loc="upper left", fontsize=10, handletextpad=0.2)
        description = f"Of {len(pairs)} questions the tuned model needs fewer bits for {len(better)}, and no fewer for {len(others)}."
        return _svg(drawing, "Bits per byte of each edit, base against tuned model", description)


def _ticks() -> Iterator[float]:
    for power in range(-6, 4):
        yield from (digit * 10.0**power for digit in (1, 2, 5))


def _axes(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    drawing = Figure(figsize=(width, height))
    return drawing, drawing.add_subplot()


def _svg(drawing: Figure, title: str, description: str) -> Markup:
    """Convert a figure to an SVG element that scales with the page, uses its colours, and has a description."""
    file = BytesIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawing.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    root = ElementTree.fromstring(file.getvalue())
    for unwanted in (*root.findall(f"{{{SVG}}}metadata"), *root.findall(f"{{{SVG}}}title")):
        root.remove(unwanted)
    _drop_unused_ids(root)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", description if description.startswith(title) else f"{title}. {description}")
    for prefix, namespace in (("", SVG), ("xlink", XLINK)):
        ElementTree.register_namespace(prefix, namespace)
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(PLACEHOLDER.sub(lambda match: f"var(--{ROLES[int(match[1], 16) - 1]})", text))


def _drop_unused_ids(root: ElementTree.Element) -> None:
    """Remove the ids that nothing refers to, because matplotlib uses the same ids in every figure."""
    used = set(re.findall(r"[#]([\w-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)

"""Reads the series of a run over its steps, from its manifest or else from TensorBoard's event files.

The manifest of an interrupted run has no `training` yet, and hardware series are in event files only.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blocklm.runs.report.components import Chart, Line, Point, name_and_unit

POINTS_SHOWN = 400  # a longer series is reduced to the least and greatest point of each stretch
TAGS = {
    "loss": "train/loss",
    "eval_loss": "eval/loss",
    "learning_rate": "train/learning_rate",
    "grad_norm": "train/grad_norm",
}
CHARTS = (
    ("Loss", "nats per token", (("training", "train/loss", False), ("validation", "eval/loss", True))),
    ("Learning rate", "", (("learning rate", "train/learning_rate", False),)),
    ("Gradient norm", "", (("gradient norm", "train/grad_norm", False),)),
    ("Validation bits per byte", "", (("bits per byte", "eval/bits_per_byte", True),)),
    ("Speed", "tokens a second", (("tokens a second", "train/tokens_per_second", False),)),
)
HARDWARE = "hardware/"
# The series to show first; the others are in the table.
FIRST_SHOWN = (
    "gpu_util",
    "gpu_temp",
    "gpu_power",
    "gpu_memory_used",
    "gpu_torch_allocated",
    "cpu_percent",
    "ram_used",
    "process_ram",
)
HARDWARE_SHOWN = 9
EVENTS = re.compile(r"events\.out\.tfevents\.\d+\..+\.\d+")  # an archive of them has another ending
Series = dict[str, tuple[Point, ...]]


def read_series(run_dir: Path, training: Mapping[str, Any] | None) -> Series:
    """Read every series of a run by its TensorBoard tag, ordered by step, each step once."""
    series: dict[str, dict[float, float]] = defaultdict(dict)
    recorded: list[tuple[float, str, Any]] = []
    for path in (run_dir / "tensorboard").rglob("events.*"):
        if EVENTS.fullmatch(path.name) and path.is_file():
            events = EventAccumulator(str(path), size_guidance={"scalars": 0})
            events.Reload()
            recorded += [
                (event.wall_time, tag, event) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)
            ]
    for _, tag, event in sorted(recorded, key=lambda entry: entry[:2]):
        series[tag][event.step] = event.value  # of a step that was repeated after a kill the last value counts
    history = (training or {}).get("loss_history") or []
    for key, tag in TAGS.items():
        points = {entry["step"]: entry[key] for entry in history if key in entry}
        if points:
            series[tag] = points
    return {tag: tuple(sorted(points.items())) for tag, points in series.items() if points}


def last_step(series: Series) -> int | None:
    """Return the last step in the training series; None without any."""
    return max((int(points[-1][0]) for tag, points in series.items() if tag in TAGS.values()), default=None)


def training_charts(series: Series) -> list[Chart]:
    """Make the charts of loss, learning rate, gradient norm, validation and speed, as far as they were recorded."""
    charts = []
    for title, unit, parts in CHARTS:
        lines = [Line(name, series[tag], marked) for name, tag, marked in parts if tag in series]
        if lines:
            charts.append(Chart(title, unit, tuple(lines)))
    return charts


def hardware_charts(series: Series) -> list[Chart]:
    """Make a chart for each of the first hardware series that have more than one point."""
    curves = {
        tag.rpartition(HARDWARE)[2]: points for tag, points in series.items() if HARDWARE in tag and len(points) > 1
    }
    charts = []
    for name in sorted(curves, key=lambda name: (_rank(name), name))[:HARDWARE_SHOWN]:
        title, unit = name_and_unit(name)
        charts.append(Chart(title, unit, (Line(title, curves[name]),)))
    return charts


def _rank(name: str) -> int:
    return next((rank for rank, part in enumerate(FIRST_SHOWN) if part in name), len(FIRST_SHOWN))


def thin(points: tuple[Point, ...], limit: int = POINTS_SHOWN) -> tuple[Point, ...]:
    """Reduce a series to about `limit` points that include the extremes of each stretch, so that spikes remain."""
    if len(points) <= limit:
        return points
    stretch = -(-2 * len(points) // limit)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return tuple(kept)

"""The series of a run over its steps: from the manifest where it holds them, else from TensorBoard's event files.

A run that was interrupted has no `training` in its manifest yet, and hardware series stand in event files only.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from blocklm.runs.report.components import Chart, Line, Point, named

POINTS_SHOWN = 400  # of a series: beyond it, the least and the greatest of each stretch stand for all
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
# What a reader looks for first; the rest is in the table.
WATCHED = (
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
EVENTS = re.compile(r"events\.out\.tfevents\.\d+\..+\.\d+")  # and no archive of them
Series = dict[str, tuple[Point, ...]]


def read_series(run_dir: Path, training: Mapping[str, Any] | None) -> Series:
    """Every series of a run by its TensorBoard tag, in the order of the steps, each step once."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    written: list[tuple[float, str, Any]] = []
    for path in (run_dir / "tensorboard").rglob("events.*"):
        if EVENTS.fullmatch(path.name) and path.is_file():
            events = EventAccumulator(str(path), size_guidance={"scalars": 0})
            events.Reload()
            written += [
                (event.wall_time, tag, event) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)
            ]
    for _, tag, event in sorted(written, key=lambda entry: entry[:2]):
        found[tag][event.step] = event.value  # a step that was taken again after a kill counts as it was last
    history = (training or {}).get("loss_history") or []
    for key, tag in TAGS.items():
        known = {entry["step"]: entry[key] for entry in history if key in entry}
        if known:
            found[tag] = known
    return {tag: tuple(sorted(points.items())) for tag, points in found.items() if points}


def last_step(series: Series) -> int | None:
    """The last step of which something is known."""
    return max((int(points[-1][0]) for tag, points in series.items() if tag in TAGS.values()), default=None)


def training_charts(series: Series) -> list[Chart]:
    """Loss, learning rate, gradient norm and what else was recorded of the training."""
    charts = []
    for title, unit, wanted in CHARTS:
        lines = [Line(name, series[tag], marked) for name, tag, marked in wanted if tag in series]
        if lines:
            charts.append(Chart(title, unit, tuple(lines)))
    return charts


def hardware_charts(series: Series) -> list[Chart]:
    """A chart for each hardware series with more than one point, those that are watched most first."""
    found = {
        tag.rpartition(HARDWARE)[2]: points for tag, points in series.items() if HARDWARE in tag and len(points) > 1
    }
    names = sorted(
        found, key=lambda name: (next((at for at, start in enumerate(WATCHED) if start in name), len(WATCHED)), name)
    )
    charts = []
    for name in names[:HARDWARE_SHOWN]:
        title, unit = named(name)
        charts.append(Chart(title, unit, (Line(title, found[name]),)))
    return charts


def thinned(points: tuple[Point, ...], most: int = POINTS_SHOWN) -> tuple[Point, ...]:
    """At most about `most` points that keep every stretch's extremes, so that a spike stays a spike."""
    if len(points) <= most:
        return points
    stretch = -(-2 * len(points) // most)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return tuple(kept)

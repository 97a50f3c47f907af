"""Formats measurements and the hours that follow from them, for the terminal and for `docs/gpu.md`."""

from collections.abc import Iterator
from dataclasses import asdict

from blocklm.formatting import count, duration, figure, gib, signed
from blocklm.runs.report.components import Row, Table
from blocklm.runs.report.text import text_lines
from blocklm.training.measuring.work import Work
from blocklm.training.planning.measurement import Measurement

MILLION = 1_000_000
UNKNOWN = "\N{EN DASH}"


def measurement_lines(measurement: Measurement) -> Iterator[str]:
    """Show planned against measured memory by part, and the speeds."""
    planned, measured = asdict(measurement.planned), asdict(measurement.measured)
    rows = [Row((part, *_compared(planned[part], measured[part]))) for part in planned]
    rows.append(Row(("a train step", *_compared(measurement.planned.total, measurement.measured.total))))
    others = {"an evaluation step": measurement.evaluation, "an exam batch": measurement.exam}
    rows += [Row((name, UNKNOWN, gib(peak), "")) for name, peak in (*others.items(), ("answers", measurement.answers))]
    rows_are = "packed rows" if measurement.packed else "rows of one text"
    caption = (
        f"Measured on {measurement.device}: {measurement.micro_batch} x {measurement.length} tokens, {rows_are}, "
        f"{kernel_and_dtype(measurement)}"
    )
    yield from text_lines(Table(caption, ("Peak of", "Planned", "Measured", "Error of plan"), tuple(rows), (1, 2, 3)))
    if measurement.reserved is not None and measurement.context is not None:
        yield f"the allocator held {gib(measurement.reserved)}, driver and kernels {gib(measurement.context)} beside it"
    speeds = measurement.speeds
    watts = "" if speeds.watts is None else f", {speeds.watts:.0f} W"
    yield (
        f"{figure(measurement.tokens_per_second)} tokens a second in training, {duration(measurement.step_seconds)} a "
        f"step{watts}; {figure(speeds.read)} a second in the exam, {figure(speeds.prompt)} of prompts, "
        f"{figure(speeds.written)} of answers"
    )


def gpu_row(measurement: Measurement, recipe: str) -> str:
    """Format a measurement as a row of the table in `docs/gpu.md`; who ran it is left to fill in."""
    limit = "" if measurement.limit is None else f", capped to {gib(measurement.limit)}"
    hours = MILLION / measurement.tokens_per_second / 3600
    cells = (
        f"{measurement.device}{limit}",
        f"{recipe}, {measurement.micro_batch} x {measurement.length}",
        kernel_and_dtype(measurement),
        gib(measurement.planned.total),
        gib(measurement.measured.total),
        figure(measurement.tokens_per_second),
        figure(hours),
        f"who?, {measurement.day}",
    )
    return f"| {' | '.join(cells)} |"


def kernel_and_dtype(measurement: Measurement) -> str:
    """Name the attention kernel and the dtype of the matrix products."""
    kernel = f"kernel {measurement.kernel}" if measurement.kernel else "kernel of PyTorch's choice"
    return f"{kernel}, {measurement.dtype}"


def work_lines(work: Work, measurement: Measurement | None) -> Iterator[str]:
    """Show the tokens of a run, and its hours if the device was measured."""
    answers = f"{count(work.prompts)} of prompts with {count(work.written)} of answers"
    yield (
        f"at most {count(work.steps)} steps: {count(work.trained)} tokens of training, {count(work.evaluated)} of "
        f"validation, {count(work.examined)} of the exam, {answers}"
    )
    if measurement is None:
        yield "hours follow from these once `--measure` has measured this device"
        return
    seconds = work.seconds(measurement)
    parts = ", ".join(f"{name} {duration(value)}" for name, value in seconds.items())
    yield f"at most {duration(sum(seconds.values()))} on {measurement.device}, without mining: {parts}"


def _compared(planned: int, measured: int) -> tuple[str, str, str]:
    error = signed(100 * (planned / measured - 1)) if measured else UNKNOWN
    return gib(planned), gib(measured), error

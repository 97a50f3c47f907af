"""Samples numbers at a fixed interval in a thread of its own, and summarises them."""

import logging
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

Source = Callable[[], dict[str, float]]


class BackgroundSampler:
    """Samples several sources without ending or slowing the training.

    A source that fails is reported once and not read again; its values so far stay in the summary.

    Args:
        sources: functions that return numbers by name.
        interval: seconds between two samples.
    """

    def __init__(self, sources: Sequence[Source], interval: float) -> None:
        self.interval = interval
        self._sources = list(sources)
        self._values: dict[str, array[float]] = {}
        self._reported: dict[str, int] = {}
        self._latest: dict[str, float] = {}
        self._seconds = 0.0
        self._samples = 0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take a first sample, and one more every interval."""
        if self._thread is None:
            self._end.clear()
            self._sample()
            self._thread = threading.Thread(target=self._run, name="blocklm-gauges", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread; all samples are kept."""
        if self._thread is not None:
            self._end.set()
            self._thread.join()
            self._thread = None

    @property
    def latest(self) -> dict[str, float]:
        """The newest sample."""
        with self._lock:
            return dict(self._latest)

    def means(self) -> dict[str, float]:
        """Return the mean of each series since the last call, or its newest value if nothing is new since."""
        with self._lock:
            means = {}
            for name, values in self._values.items():
                new = values[self._reported.get(name, 0) :] or (values[-1:] if name in self._latest else ())
                self._reported[name] = len(values)
                if len(new):
                    means[name] = sum(new) / len(new)
            return means

    def usage(self) -> dict[str, Any]:
        """Return seconds, number of samples, and minimum, mean, maximum and 95th percentile of each series."""
        with self._lock:
            return {
                "seconds": round(self._seconds, 2),
                "samples": self._samples,
                "interval_seconds": self.interval,
                "series": {name: _summary(values) for name, values in sorted(self._values.items())},
            }

    def _run(self) -> None:
        started = due = time.monotonic()
        before = self._seconds
        while not self._end.is_set():
            due += self.interval
            self._end.wait(max(0.0, due - time.monotonic()))
            self._sample()
            self._seconds = before + time.monotonic() - started

    def _sample(self) -> None:
        sample: dict[str, float] = {}
        for source in list(self._sources):
            try:
                sample |= source()
            except Exception as error:
                self._sources.remove(source)
                logger.warning("hardware is no longer read in full: %s: %s", type(error).__name__, error)
        with self._lock:
            self._latest = sample
            self._samples += 1
            for name, value in sample.items():
                self._values.setdefault(name, array("d")).append(value)


def _summary(values: Sequence[float]) -> dict[str, float]:
    numbers = np.asarray(values)
    return {
        "min": round(float(numbers.min()), 3),
        "mean": round(float(numbers.mean()), 3),
        "max": round(float(numbers.max()), 3),
        "p95": round(float(np.percentile(numbers, 95)), 3),
    }

"""Reads numbers at an even pace in a thread of its own, and says what they came to."""

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
    """Samples of several sources; never ends or slows the training that it watches.

    A source that fails is not read again, one warning says so, and what it gave stays in the summary.

    Args:
        sources: each gives numbers by name.
        interval: seconds between two samples.
    """

    def __init__(self, sources: Sequence[Source], interval: float) -> None:
        self.interval = interval
        self._sources = list(sources)
        self._values: dict[str, array[float]] = {}
        self._told: dict[str, int] = {}
        self._latest: dict[str, float] = {}
        self._seconds = 0.0
        self._samples = 0
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take a first sample, and others every interval from now."""
        if self._thread is None:
            self._end.clear()
            self._sample()
            self._thread = threading.Thread(target=self._run, name="blocklm-gauges", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread; what was sampled stays."""
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
        """The mean of each series since the last call; of one that has nothing new since, its newest value."""
        with self._lock:
            found = {}
            for name, values in self._values.items():
                new = values[self._told.get(name, 0) :] or (values[-1:] if name in self._latest else ())
                self._told[name] = len(values)
                if len(new):
                    found[name] = sum(new) / len(new)
            return found

    def usage(self) -> dict[str, Any]:
        """Seconds sampled, samples, and of each series minimum, mean, maximum and 95th percentile."""
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
        found: dict[str, float] = {}
        for source in list(self._sources):
            try:
                found |= source()
            except Exception as error:
                self._sources.remove(source)
                logger.warning("hardware is no longer read in full: %s: %s", type(error).__name__, error)
        with self._lock:
            self._latest = found
            self._samples += 1
            for name, value in found.items():
                self._values.setdefault(name, array("d")).append(value)


def _summary(values: Sequence[float]) -> dict[str, float]:
    numbers = np.asarray(values)
    return {
        "min": round(float(numbers.min()), 3),
        "mean": round(float(numbers.mean()), 3),
        "max": round(float(numbers.max()), 3),
        "p95": round(float(np.percentile(numbers, 95)), 3),
    }

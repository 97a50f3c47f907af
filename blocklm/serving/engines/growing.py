"""An answer while it grows: hands its certain text to whoever listens, and tells when it is to stop."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import exp
from time import perf_counter

from blocklm.serving.engines.answer_reader import AnswerReader, Reading
from blocklm.serving.question import Answer, Limits


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Whoever waits for an answer.

    Attributes:
        cancelled: tells whether nobody waits any more.
        emit: takes the next part of the text as soon as it is certain; None if only the whole answer is wanted.
    """

    cancelled: Callable[[], bool]
    emit: Callable[[str], None] | None = None


class Growing:
    """An answer that grows; it begins with the reading of its prompt.

    Args:
        reader: reads the answer.
        limits: limits of the answer.
        listener: whoever waits for it.
    """

    def __init__(self, reader: AnswerReader, limits: Limits, listener: Listener) -> None:
        self.reader = reader
        self._limits, self._listener = limits, listener
        self._reading, self._sent = Reading(""), 0
        self._log_probability, self._has_line = 0.0, False
        self._started, self._first = perf_counter(), 0.0

    def grow(self, reading: Reading, log_probability: float = 0.0) -> bool:
        """Take what the answer says now; return whether it is to stop.

        Args:
            reading: all of the answer so far.
            log_probability: that of the newest token.
        """
        self._first = self._first or perf_counter()
        before, self._reading = self._reading.text, reading
        if not self._has_line:
            self._log_probability += log_probability
            self._has_line = "\n" in reading.text.lstrip() or reading.stopped_by is not None
        self._send(reading.certain)
        if self._is_late(before):
            whole_lines = reading.text.rfind("\n") + 1
            self._reading = replace(reading, text=reading.text[: max(self._sent, whole_lines)], stopped_by="limit")
        stops = self._reading.stopped_by is not None or self._listener.cancelled()
        return stops or (self._has_line and self._is_doubtful)

    @property
    def _is_doubtful(self) -> bool:
        return exp(self._log_probability) < self._limits.min_probability

    def finish(self, prompt_tokens: int, read_tokens: int, tokens: int) -> Answer:
        """Hand on the rest of the text, and return the answer.

        Args:
            prompt_tokens: tokens of the prompt.
            read_tokens: those of them that the model had to read.
            tokens: tokens that the model wrote.

        Raises:
            Cancelled: the listener is gone.
        """
        if self._listener.cancelled():
            raise Cancelled
        now, self._has_line = perf_counter(), True
        text = "" if self._is_doubtful else self.reader.whole(self._reading)
        self._send(len(text))
        first = self._first or now
        return Answer(
            text=text,
            stopped_by=self._reading.stopped_by or "limit",
            word=self._reading.word,
            prompt_tokens=prompt_tokens,
            read_tokens=read_tokens,
            tokens=tokens,
            prompt_ms=1000 * (first - self._started),
            answer_ms=1000 * (now - first),
            probability=exp(self._log_probability),
        )

    def _is_late(self, before: str) -> bool:
        """Whether the time is up; as in llama.cpp, an answer ends only with a line."""
        if self._limits.milliseconds is None or self._reading.stopped_by is not None:
            return False
        ends_line = "\n" in self._reading.text[len(before) :]
        return ends_line and 1000 * (perf_counter() - self._first) > self._limits.milliseconds

    def _send(self, end: int) -> None:
        """Hand on the text up to `end`, unless it may still be left out."""
        if self._limits.min_probability and (not self._has_line or self._is_doubtful):
            return
        if self._listener.emit is not None and end > self._sent:
            self._listener.emit(self._reading.text[self._sent : end])
            self._sent = end

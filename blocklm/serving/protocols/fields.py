"""Reads the fields of a JSON request by hand, so that unknown fields are ignored and wrong ones are named."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blocklm.serving.refused import Refused

MAX_STOPS, MAX_STOP_CHARS = 16, 256


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of a JSON object; a field that is null counts as left out."""

    values: Mapping[str, Any]

    @classmethod
    def parse(cls, body: bytes) -> "Fields":
        """Parse the body of a request.

        Raises:
            Refused: it is no JSON object.
        """
        try:
            values = json.loads(body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise Refused(400, "the body is no JSON") from None
        if not isinstance(values, dict):
            raise Refused(400, "the body is no JSON object")
        return cls(values)

    def text(self, name: str) -> str | None:
        """Return a text, or None if it is left out; what is no valid Unicode becomes U+FFFD."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise Refused(400, f"`{name}` must be a string")
        return None if value is None else well_formed(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a string or a list of strings; none if it is left out."""
        value = self.values.get(name)
        listed = [value] if isinstance(value, str) else value or []
        if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
            raise Refused(400, f"`{name}` must be a string or a list of strings")
        return tuple(map(well_formed, listed))

    def stops(self) -> tuple[str, ...]:
        """Return the texts of `stop`, which end an answer."""
        stops = tuple(stop for stop in self.texts("stop") if stop)
        if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in stops):
            raise Refused(400, f"`stop` may have {MAX_STOPS} texts of {MAX_STOP_CHARS} characters")
        return stops

    def objects(self, name: str) -> list["Fields"]:
        """Return the objects of a list; none if it is left out."""
        listed = self.values.get(name) or []
        if not isinstance(listed, list) or not all(isinstance(value, dict) for value in listed):
            raise Refused(400, f"`{name}` must be a list of objects")
        return [Fields(value) for value in listed]

    def whole(self, name: str, default: int) -> int:
        """Return a whole number."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
            raise Refused(400, f"`{name}` must be a whole number")
        return int(value)

    def number(self, name: str, default: float) -> float:
        """Return a finite number of at least 0."""
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise Refused(400, f"`{name}` must be a number of at least 0")
        return float(value)

    def flag(self, name: str) -> bool:
        """Return whether a flag is set."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, bool):
            raise Refused(400, f"`{name}` must be true or false")
        return bool(value)


def well_formed(text: str) -> str:
    """Replace lone surrogates, which JSON can escape and no tokenizer reads."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _refuse_constant(name: str) -> float:
    raise ValueError(name)

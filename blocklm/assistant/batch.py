"""Answers requests given as JSON lines, in batches: each line is returned with the answer added."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.attribution import Attributor
from blocklm.errors import UserError

LINES_PER_BATCH = 64  # lines read before their answers are written, in order: an interruption loses at most these


def answer_lines(
    assistant: Assistant, arms: Sequence[str], lines: Iterable[bytes], origins: Attributor | None = None
) -> Iterator[str]:
    """Yield each line's object with `output` and `ended` added, and `origins` and `verbatim` if `origins` is given.

    With both arms the base's answer is `base_output`. Characters beyond ASCII are escaped: a line is safe to show.

    Args:
        assistant: the run's model and its base.
        arms: `tuned`, `base` or both.
        lines: JSON objects in UTF-8, as `PromptBuilder.row` takes them.
        origins: attributor of the answers; None by default, which adds no origins.

    Raises:
        UserError: a line is no JSON or no request; all full batches before it are answered.
    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    while batch := list(islice(numbered, LINES_PER_BATCH)):
        rows, requests = [], []
        for number, line in batch:
            try:
                row = json.loads(line)
                requests.append(replace(assistant.prompt_builder.row(row), name=f"line {number}"))
            except (ValueError, RecursionError) as error:
                hint = error.hint if isinstance(error, UserError) else "give one JSON object a line"
                raise UserError(f"line {number}: {error}", hint) from None
            rows.append(row)
        for arm in arms:
            prefix = "base_" if arm != arms[0] else ""
            for row, request, output in zip(rows, requests, assistant.answers(requests, arm == "base"), strict=True):
                row |= {f"{prefix}output": output.text, f"{prefix}ended": output.ended}
                if origins is not None and not prefix:
                    row |= _attribute(origins, request.prompt.text, output.text)
        yield from map(json.dumps, rows)


def _attribute(origins: Attributor, prompt: str, answer: str) -> dict[str, Any]:
    attribution = origins.of(prompt, answer)
    nearest = [asdict(origin) | {"day": origin.day.isoformat()} for origin in attribution.nearest]
    return {
        "origins": nearest,
        "verbatim": [{"commit": commit, "path": path} for commit, path in attribution.verbatim],
    }

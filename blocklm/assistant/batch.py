"""Questions as JSON lines, answered in batches as JSON lines: each line comes back with what was written to it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.attribution import Attributor
from blocklm.errors import UserError

AT_ONCE = 64  # lines read before their answers are written, in order: what an interruption costs


def answer_lines(
    assistant: Assistant, arms: Sequence[str], lines: Iterable[bytes], origins: Attributor | None = None
) -> Iterator[str]:
    """Yield for each line the same object with `output` and `ended`, and `origins` and `verbatim` if they are searched for.

    With both arms the base's answer is `base_output`. Characters that are not ASCII are escaped: a line is safe to show.

    Args:
        assistant: who answers.
        arms: `tuned`, `base` or both.
        lines: JSON objects in UTF-8, as `Wording.row` takes them.
        origins: where to search for what was written.

    Raises:
        UserError: a line is no JSON or asks nothing; what came before it in full is answered.
    """
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    while some := list(islice(numbered, AT_ONCE)):
        rows, requests = [], []
        for number, line in some:
            try:
                row = json.loads(line)
                requests.append(replace(assistant.prompt_builder.row(row), name=f"line {number}"))
            except (ValueError, RecursionError) as error:
                hint = error.hint if isinstance(error, UserError) else "give one JSON object a line"
                raise UserError(f"line {number}: {error}", hint) from None
            rows.append(row)
        for arm in arms:
            first = "base_" if arm != arms[0] else ""
            for row, request, output in zip(rows, requests, assistant.answers(requests, arm == "base"), strict=True):
                row |= {f"{first}output": output.text, f"{first}ended": output.ended}
                if origins is not None and not first:
                    row |= _searched(origins, request.prompt.text, output.text)
        yield from map(json.dumps, rows)


def _searched(origins: Attributor, prompt: str, answer: str) -> dict[str, Any]:
    found = origins.of(prompt, answer)
    nearest = [asdict(one) | {"day": one.day.isoformat()} for one in found.nearest]
    return {"origins": nearest, "verbatim": [{"commit": commit, "path": path} for commit, path in found.verbatim]}

"""Reads how a run does in an editor: when its server is silent, and what became of the texts that it showed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blocklm.files import read_json_lines
from blocklm.formatting import count, plural
from blocklm.runs.report.components import Chart, Line, Row, Table

SILENCE, FEEDBACK = "silence.json", "feedback.jsonl"


def silence_chart(path: Path) -> tuple[Chart, str]:
    """Return the curve of shown against right first lines in a file `silence.json`, and a sentence about the threshold.

    Raises:
        OSError, ValueError, LookupError, TypeError: the file is damaged.
    """
    chosen = json.loads(path.read_bytes())
    points = tuple((100 * point["shown"], 100 * point["right"]) for point in chosen["curve"])
    at = next((point for point in chosen["curve"] if point["threshold"] == chosen["threshold"]), chosen["curve"][-1])
    sentence = (
        f"Of {plural(chosen['places'], 'place')} in the validation split. With --silence the server shows the "
        f"{100 * at['shown']:.0f} % whose first line the model finds likelier than {chosen['threshold']:.3g}; "
        f"{100 * at['right']:.0f} % of those lines are right, and {points[-1][1]:.0f} % of all."
    )
    chart = Chart("First lines that are right", "%", (Line("right", points),), across="percent shown")
    return chart, sentence


def feedback_table(path: Path) -> Table | None:
    """Count what became of the texts in a file `feedback.jsonl`, by the last requests of editors; None for no texts.

    Raises:
        OSError, ValueError, LookupError, TypeError: the file is damaged.
    """
    rows = read_json_lines(path, skip_torn=True)
    if not rows:
        return None
    groups: dict[str, list[dict[str, Any]]] = {
        "kept whole": [row for row in rows if row["kept"] == row["characters"]],
        "first line kept": [row for row in rows if row["kept"] is not None and _line_kept(row)],
        "rejected": [row for row in rows if row["kept"] is not None and row["kept"] < row["first_line"]],
        "not known": [row for row in rows if row["kept"] is None],
    }
    table = [Row((name, count(len(group)), _mean(group)), len(group) / len(rows)) for name, group in groups.items()]
    note = (
        "By the editor's next requests; what was typed by hand counts as kept. Not known: the cursor went elsewhere."
    )
    return Table("Texts shown in an editor", ("Outcome", "Texts", "Mean probability"), tuple(table), (1, 2), note)


def _line_kept(row: dict[str, Any]) -> bool:
    return bool(row["first_line"] <= row["kept"] < row["characters"])


def _mean(rows: Sequence[dict[str, Any]]) -> str:
    return f"{sum(row['probability'] for row in rows) / len(rows):.2f}" if rows else "\N{EN DASH}"

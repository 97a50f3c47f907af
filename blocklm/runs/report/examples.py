"""Single texts a reader can judge for himself: the exam's best and worst edits, and what the model wrote while it learned.

The exam records no text; what its items ask for is read from the corpus, where it stands redacted, as long as that is there.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import load_from_disk

from blocklm.files import read_json_lines
from blocklm.formatting import figure, plural, signed
from blocklm.runs.report.components import Chart, Example, Line

EXTREMES = 3
ITEMS_SHOWN = 6
STEPS_SHOWN = 3
SCORES_SHOWN = 4
TASKS_SHOWN = 5
CHARS_SHOWN = 1200
Item = Mapping[str, Any]
Pieces = tuple[tuple[str, bool], ...]


def extremes(items: Sequence[Item], manifest: Mapping[str, Any]) -> tuple[list[Example], list[Example]]:
    """The exam items where training saved most bits, and those where it cost most."""
    known = [item for item in items if item["bytes"]]
    ranked = sorted(known, key=lambda item: item["tuned_bits"] - item["base_bits"])
    best = [item for item in ranked[:EXTREMES] if item["tuned_bits"] < item["base_bits"]]
    worst = [item for item in ranked[: -EXTREMES - 1 : -1] if item["tuned_bits"] > item["base_bits"]]
    texts = _exam_texts({item["id"] for item in (*best, *worst)}, manifest)
    return [_of_exam(item, texts) for item in best], [_of_exam(item, texts) for item in worst]


def _exam_texts(ids: set[str], manifest: Mapping[str, Any]) -> dict[str, Item]:
    """Rows of the test split by id, as far as the corpus is still where the run left it."""
    corpus_dir, name = Path(manifest["recipe"].get("corpus_dir") or ""), manifest["repository"]["name"][:100]
    folder = corpus_dir / name / f"samples-{manifest['corpus']['key']}" / "data" / "test"
    if not folder.is_dir():
        return {}
    test = load_from_disk(str(folder))
    rows = [at for at, name in enumerate(test["id"][:]) if name in ids]
    return {row["id"]: row for row in test.select(rows)}


def _of_exam(item: Item, texts: Mapping[str, Item]) -> Example:
    base, tuned = (item[f"{arm}_bits"] / item["bytes"] for arm in ("base", "tuned"))
    change = signed(100 * (tuned / base - 1)) if base else "\N{EN DASH}"
    about = (
        f"{base:.3f} \N{RIGHTWARDS ARROW} {tuned:.3f} bits per byte ({change}), {plural(item['bytes'], 'added byte')}, "
        f"commit {item['commit'][:12]}"
    )
    row = texts.get(item["id"])
    if row is None:
        return Example(item["path"], about, ())
    shown = (("Asked with", ((_tail(row["prompt"]), False),)), ("What the commit wrote", _added(row)))
    return Example(item["path"], about, shown)


def _added(row: Item) -> Pieces:
    """The truth in pieces, those marked that count: what the commit added."""
    text, spans, pieces, at = row["completion"], row["added"], [], 0
    for start, end in zip(spans[::2], spans[1::2], strict=True):
        pieces += [(text[at:start], False), (text[start:end], True)]
        at = end
    return _clipped([*pieces, (text[at:], False)])


def _clipped(pieces: Sequence[tuple[str, bool]]) -> Pieces:
    kept, room = [], CHARS_SHOWN
    for text, counts in pieces:
        if text and room > 0:
            kept.append((text[:room], counts))
            room -= len(text)
    return (*kept, *([(_more(-room), False)] if room < 0 else []))


def _more(chars: int) -> str:
    return f"\n\N{HORIZONTAL ELLIPSIS} {plural(chars, 'character')} more"


def _tail(text: str) -> str:
    """The end of a prompt, which is what the model goes on from."""
    cut = len(text) - CHARS_SHOWN
    return text if cut <= 0 else f"\N{HORIZONTAL ELLIPSIS} {plural(cut, 'character')} before\n{text[cut:]}"


def read_samples(path: Path) -> list[Item]:
    """The rows of `samples.jsonl`, one of each step and item; none if it is absent, and not the last if a kill tore it."""
    rows = [
        row
        for row in read_json_lines(path, skip_torn=True)
        if isinstance(row, dict) and {"step", "item", "output"} <= row.keys()
    ]
    return list({(row["step"], str(row["item"])): row for row in rows}.values())  # a step taken again counts once


def samples(rows: Sequence[Item]) -> list[Example]:
    """What the model wrote for a few items at the first, a middle and the last step, beside the truth."""
    by_item: dict[str, dict[int, Item]] = defaultdict(dict)
    for row in rows:
        by_item[str(row["item"])][int(row["step"])] = row
    return [_of_item(steps) for steps in _spread(list(by_item.values()))]


def _spread(items: Sequence[Mapping[int, Item]]) -> list[Mapping[int, Item]]:
    """Items in turn from every task."""
    waiting: dict[str, list[Mapping[int, Item]]] = defaultdict(list)
    for steps in items:
        waiting[_task(next(iter(steps.values())))].append(steps)
    turns = max((len(of) for of in waiting.values()), default=0)
    return [of[at] for at in range(turns) for of in waiting.values() if at < len(of)][:ITEMS_SHOWN]


def _of_item(steps: Mapping[int, Item]) -> Example:
    order = sorted(steps)
    picked = sorted({order[at * (len(order) - 1) // (STEPS_SHOWN - 1)] for at in range(STEPS_SHOWN)})
    newest = steps[order[-1]]
    texts: list[tuple[str, Pieces]] = [("Prompt", ((_tail(str(newest.get("prompt") or "")), False),))]
    if newest.get("truth"):
        texts.append(("Truth", _clipped([(str(newest["truth"]), False)])))
    for step in picked:
        scores = ", ".join(
            f"{name.replace('_', ' ')} {figure(round(value, 3))}" for name, value in _scores(steps[step]).items()
        )
        label = "Before training" if step == 0 else f"Step {step}"
        texts.append((f"{label}: {scores}" if scores else label, _clipped([(str(steps[step]["output"]), False)])))
    return Example(str(newest["item"]), _task(newest), tuple(texts))


def _task(row: Item) -> str:
    return str(row.get("task") or "prompt")


def _scores(row: Item) -> dict[str, float]:
    return {name: float(value) for name, value in (row.get("scores") or {}).items() if isinstance(value, int | float)}


def score_charts(rows: Sequence[Item]) -> list[Chart]:
    """The mean of each score over the steps, a line for each task."""
    values: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        for name, value in _scores(row).items():
            values[name][_task(row)][int(row["step"])].append(value)
    charts = []
    for name, tasks in list(values.items())[:SCORES_SHOWN]:
        lines = [
            Line(task, tuple((step, sum(of) / len(of)) for step, of in sorted(steps.items())), marked=True)
            for task, steps in list(tasks.items())[:TASKS_SHOWN]
        ]
        charts.append(Chart(name.replace("_", " "), "mean", tuple(lines)))
    return charts

"""Selects single texts for a reader to judge: the exam's best and worst edits, and answers during training.

The exam's records hold no text. It is read from the corpus, where secrets are redacted, as long as that exists.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
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
LINES_BEFORE, LINES_AFTER = 8, 4  # that an answer is shown between
Item = Mapping[str, Any]
Pieces = tuple[tuple[str, bool], ...]


def extremes(items: Sequence[Item], manifest: Mapping[str, Any]) -> tuple[list[Example], list[Example]]:
    """Select the exam items where training saved most bits, and those where it cost most."""
    scored = [item for item in items if item["bytes"]]
    ranked = sorted(scored, key=lambda item: item["tuned_bits"] - item["base_bits"])
    best = [item for item in ranked[:EXTREMES] if item["tuned_bits"] < item["base_bits"]]
    worst = [item for item in ranked[: -EXTREMES - 1 : -1] if item["tuned_bits"] > item["base_bits"]]
    texts = _exam_texts({item["id"] for item in (*best, *worst)}, manifest)
    return [_exam_example(item, texts) for item in best], [_exam_example(item, texts) for item in worst]


def _exam_texts(ids: set[str], manifest: Mapping[str, Any]) -> dict[str, Item]:
    """Read rows of the test split by id; none if the corpus is no longer where the run built it."""
    corpus_dir, name = Path(manifest["recipe"].get("corpus_dir") or ""), manifest["repository"]["name"][:100]
    folder = corpus_dir / name / f"samples-{manifest['corpus']['key']}" / "data" / "test"
    if not folder.is_dir():
        return {}
    test = load_from_disk(str(folder))
    rows = [row for row, sample_id in enumerate(test["id"][:]) if sample_id in ids]
    return {row["id"]: row for row in test.select(rows)}


def _exam_example(item: Item, texts: Mapping[str, Item]) -> Example:
    base, tuned = (item[f"{arm}_bits"] / item["bytes"] for arm in ("base", "tuned"))
    change = signed(100 * (tuned / base - 1)) if base else "\N{EN DASH}"
    about = (
        f"{base:.3f} \N{RIGHTWARDS ARROW} {tuned:.3f} bits per byte ({change}), {plural(item['bytes'], 'added byte')}, "
        f"commit {item['commit'][:12]}"
    )
    row = texts.get(item["id"])
    if row is None:
        return Example(item["path"], about, ())
    # The prompt of a sample at a place in a file is not stored.
    prompt = [("Prompt", ((_tail(row["prompt"]), False),))] if row["prompt"] else []
    return Example(item["path"], about, (*prompt, ("What the commit wrote", _truth_pieces(row))))


def _truth_pieces(row: Item) -> Pieces:
    """Split the truth into pieces, and highlight those that the commit added, which are scored."""
    text, spans, pieces, position = row["completion"], row["added"], [], 0
    for start, end in zip(spans[::2], spans[1::2], strict=True):
        pieces += [(text[position:start], False), (text[start:end], True)]
        position = end
    return _clip([*pieces, (text[position:], False)])


def _clip(pieces: Sequence[tuple[str, bool]]) -> Pieces:
    """Keep the first `CHARS_SHOWN` characters, and say how many more there are."""
    kept, left = [], CHARS_SHOWN
    for text, highlighted in pieces:
        if text and left > 0:
            kept.append((text[:left], highlighted))
            left -= len(text)
    if left < 0:
        kept.append((f"\n\N{HORIZONTAL ELLIPSIS} {plural(-left, 'character')} more", False))
    return tuple(kept)


def _tail(text: str) -> str:
    """Keep the end of a prompt, which the model continues."""
    cut = len(text) - CHARS_SHOWN
    return text if cut <= 0 else f"\N{HORIZONTAL ELLIPSIS} {plural(cut, 'character')} before\n{text[cut:]}"


def read_samples(path: Path) -> list[Item]:
    """Read `samples.jsonl`, one row for each step and item, without a row that a kill cut off.

    Without the file there are no rows.
    """
    rows = [
        row
        for row in read_json_lines(path, skip_torn=True)
        if isinstance(row, dict) and {"step", "item", "output"} <= row.keys()
    ]
    return list(
        {(row["step"], str(row["item"])): row for row in rows}.values()
    )  # a step that was repeated after a kill counts once


def completion(rows: Sequence[Item]) -> Example | None:
    """Show one completion as an editor would: what stood there before training, and what after it; None without one.

    Of the questions with an answer before the first step, it is the one whose truth is longest: a choice by the data
    alone.
    """
    by_item: dict[str, dict[int, Item]] = defaultdict(dict)
    for row in rows:
        if row.get("task") == "completion" and row.get("truth"):
            by_item[str(row["item"])][int(row["step"])] = row
    asked = [steps for steps in by_item.values() if 0 in steps and len(steps) > 1]
    if not asked:
        return None
    steps = max(asked, key=lambda steps: len(str(steps[0]["truth"])))
    base, tuned = steps[0], steps[max(steps)]
    answers = {"The base model": base["output"], "The tuned model": tuned["output"], "The commit": base["truth"]}
    return Example(
        str(base.get("path")),
        "What stands at the cursor is highlighted. The question is of a validation commit, chosen before training.",
        tuple((name, _in_file(base, str(text))) for name, text in answers.items()),
    )


def _in_file(row: Item, answer: str) -> Pieces:
    """Put an answer between the lines around its place."""
    before = str(row.get("prefix", "")).split("\n")[-LINES_BEFORE:]
    after = str(row.get("suffix", "")).split("\n")[:LINES_AFTER]
    return ("\n".join(before), False), (answer, True), ("\n".join(after), False)


def samples(rows: Sequence[Item]) -> list[Example]:
    """Select a few items, and show the model's answers at the first, a middle and the last step beside the truth."""
    by_item: dict[str, dict[int, Item]] = defaultdict(dict)
    for row in rows:
        by_item[str(row["item"])][int(row["step"])] = row
    return [_sample_example(steps) for steps in _select_items(list(by_item.values()))]


def _select_items(items: Sequence[Mapping[int, Item]]) -> list[Mapping[int, Item]]:
    """Select `ITEMS_SHOWN` items: the first of each task, then the second of each, and so on."""
    by_task: dict[str, list[Mapping[int, Item]]] = defaultdict(list)
    for steps in items:
        by_task[_task(next(iter(steps.values())))].append(steps)
    rounds = zip_longest(*by_task.values())
    return [item for candidates in rounds for item in candidates if item is not None][:ITEMS_SHOWN]


def _sample_example(steps: Mapping[int, Item]) -> Example:
    order = sorted(steps)
    chosen = sorted({order[index * (len(order) - 1) // (STEPS_SHOWN - 1)] for index in range(STEPS_SHOWN)})
    newest = steps[order[-1]]
    texts: list[tuple[str, Pieces]] = [("Prompt", ((_tail(str(newest.get("prompt") or "")), False),))]
    if newest.get("truth"):
        texts.append(("Truth", _clip([(str(newest["truth"]), False)])))
    for step in chosen:
        scores = ", ".join(
            f"{name.replace('_', ' ')} {figure(round(value, 3))}" for name, value in _scores(steps[step]).items()
        )
        label = "Before training" if step == 0 else f"Step {step}"
        texts.append((f"{label}: {scores}" if scores else label, _clip([(str(steps[step]["output"]), False)])))
    return Example(str(newest["item"]), _task(newest), tuple(texts))


def _task(row: Item) -> str:
    return str(row.get("task") or "prompt")


def _scores(row: Item) -> dict[str, float]:
    return {name: float(value) for name, value in (row.get("scores") or {}).items() if isinstance(value, int | float)}


def score_charts(rows: Sequence[Item]) -> list[Chart]:
    """Make a chart of the mean of each score over the steps, with a line for each task."""
    values: dict[str, dict[str, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        for name, value in _scores(row).items():
            values[name][_task(row)][int(row["step"])].append(value)
    charts = []
    for name, tasks in list(values.items())[:SCORES_SHOWN]:
        lines = [
            Line(task, tuple((step, fmean(scores)) for step, scores in sorted(steps.items())), marked=True)
            for task, steps in list(tasks.items())[:TASKS_SHOWN]
        ]
        charts.append(Chart(name.replace("_", " "), "mean", tuple(lines)))
    return charts

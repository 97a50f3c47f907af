"""Scores the arms of the exam on the commits after the split, and tests their differences for significance.

The measure is bits per byte of the text that a commit added, given what an editor knows around it: the negative log2
probability of the added tokens over the UTF-8 bytes of the added text, summed over all items (as
lm-evaluation-harness' `bits_per_byte`). All arms are scored on the same tokens, whatever else they are shown.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.items import ExamItem
from blocklm.evaluation.exam.significance import Floats, holm, relative_change
from blocklm.models.likelihood import scored_bits
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.encode import Encoded

MIN_SLICE_COMMITS = 3
DECIMALS = 5  # of the bits of a token, in the stored answers
SLICES_SHOWN = 12  # largest slices of each division

OpenModel = Callable[[], AbstractContextManager[LoadedModel]]


@dataclass(frozen=True)
class Arm:
    """One way to answer: a model, and what it is shown around each question.

    Attributes:
        name: the arm's name in tables.
        weights: a name of the weights, for the keys of stored answers.
        open: function that opens the model; closing it restores the model that it replaced.
        questions: the questions as this arm is asked them, by id, where they differ; none by default.
    """

    name: str
    weights: str
    open: OpenModel
    questions: Mapping[str, ExamItem] = field(default_factory=dict)


def run_exam(items: Sequence[ExamItem], arms: Sequence[Arm], answers: Answers) -> dict[str, Any]:
    """Ask all arms the questions that they have not answered yet, and compare the arms.

    Args:
        items: the questions.
        arms: the arms, with `base` and `tuned` among them.
        answers: stored answers; new ones are added batch by batch.

    Raises:
        UserError: a model gives no finite probability.
    """
    bits = {arm.name: bits_of_arm(arm, items, answers) for arm in arms}
    return compare(items, {name: [sum(tokens) for tokens in of_arm] for name, of_arm in bits.items()})


def bits_of_arm(arm: Arm, items: Sequence[ExamItem], answers: Answers) -> list[list[float]]:
    """Measure the bits that an arm needs for each scored token of each item; stored ones are not computed again."""
    questions = [arm.questions.get(item.id, item) for item in items]
    key = {item.id: _key(arm.weights, item.encoded) for item in questions}
    left = [item for item in questions if answers.get(key[item.id]) is None]
    if left:
        rows = [item.encoded for item in left]
        # Closed, so that Ctrl-C leaves no rows in the queue, which Python would wait for at its end.
        with arm.open() as loaded, closing(scored_bits(loaded, rows, f"exam: {arm.name}")) as scores:
            for row, bits in scores:
                answers.add(key[left[row].id], [round(cost, DECIMALS) for cost in bits])
    return [list(map(float, answers.get(key[item.id]))) for item in questions]


def _key(weights: str, asked: Encoded) -> str:
    return key_of(weights, "tokens", asked.input_ids, asked.scored, asked.tail)


def compare(items: Sequence[ExamItem], bits: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Build the exam's result: bits per byte of each arm, and the changes in percent with their 95 % intervals.

    A negative `delta_percent` means fewer bits. The top level of the result compares `tuned` with `base`. `arms`
    compares each other arm with both. `slices` compares tuned with base on parts of the questions, with p-values after
    Holm.
    """
    size = np.array([item.added_bytes for item in items], dtype=np.float64)
    table = {name: np.array(row, dtype=np.float64) for name, row in bits.items()}
    if not all(np.isfinite(row).all() for row in table.values()):
        raise UserError(
            "a model gives no finite probability to the test text: it has diverged",
            "lower `learning_rate` and train again into another `output_dir`",
        )
    commits = [item.commit for item in items]
    others = [name for name in table if name not in ("base", "tuned")]
    return {
        "commits": len(set(commits)),
        "items": len(items),
        "added_bytes": int(size.sum()),
        **{name: {"bits_per_byte": float(row.sum() / size.sum())} for name, row in table.items()},
        **change_between(commits, table["base"], table["tuned"]),
        **(
            {"against_previous": change_between(commits, table["previous"], table["tuned"])}
            if "previous" in table
            else {}
        ),
        "arms": {
            name: {
                "bits_per_byte": float(table[name].sum() / size.sum()),
                "against_base": change_between(commits, table["base"], table[name]),
                "tuned_against_it": change_between(commits, table[name], table["tuned"]),
            }
            for name in others
        },
        "slices": _slices(items, table["base"], table["tuned"], size),
        "per_item": [
            {
                "id": item.id,
                "commit": item.commit,
                "path": item.path,
                "language": item.language,
                "bytes": item.added_bytes,
                **{f"{name}_bits": float(row[place]) for name, row in table.items()},
            }
            for place, item in enumerate(items)
        ],
    }


def change_between(commits: Sequence[str], before: Floats, after: Floats) -> dict[str, Any]:
    """Compute the change from one arm's bits to another's, summed by commit, with its interval."""
    per_commit: dict[str, Floats] = defaultdict(lambda: np.zeros(2))
    for row, commit in enumerate(commits):
        per_commit[commit] += (before[row], after[row])
    return relative_change(np.stack(list(per_commit.values())))


def _slices(items: Sequence[ExamItem], base: Floats, tuned: Floats, size: Floats) -> dict[str, list[dict[str, Any]]]:
    """Compare tuned with base on each part of the questions that has enough commits, the largest parts first."""
    parts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, item in enumerate(items):
        for division, name in (item.slices or {}).items():
            parts[division][name].append(place)
    slices = {}
    for division, named in parts.items():
        rows = []
        for name, places in sorted(named.items(), key=lambda pair: -size[pair[1]].sum())[:SLICES_SHOWN]:
            commits = [items[place].commit for place in places]
            if len(set(commits)) >= MIN_SLICE_COMMITS:
                rows.append(
                    {
                        "name": name,
                        "items": len(places),
                        "commits": len(set(commits)),
                        "base": float(base[places].sum() / size[places].sum()),
                        "tuned": float(tuned[places].sum() / size[places].sum()),
                        **change_between(commits, base[places], tuned[places]),
                    }
                )
        raised = holm({row["name"]: row["p"] for row in rows})
        slices[division] = [row | {"p_holm": raised[row["name"]]} for row in rows]
    return slices

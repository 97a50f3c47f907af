"""Score the arms of the exam on the commits after the split, and say how sure their differences are.

The measure is bits per byte of the text a commit added, given the path, the subject and the lines around it: the
negative log2 probability of the added tokens over the UTF-8 bytes of the added text, summed over all items (as in
lm-evaluation-harness, `bits_per_byte`). All arms answer for the same tokens; what some are given before the question is not
scored.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from blocklm.errors import UserError
from blocklm.evaluation.exam.answer_cache import Answers, key_of
from blocklm.evaluation.exam.items import ExamItem
from blocklm.evaluation.exam.significance import Floats, holm, relative_change
from blocklm.models.likelihood import scored_bits

MIN_SLICE_COMMITS = 3
SLICES_SHOWN = 12  # of each division, the largest


@dataclass(frozen=True)
class Arm:
    """One way to answer: a model, and what it is given before each question.

    Args:
        name: as the tables say it.
        weights: a name for the weights, for answers that are there already.
        model: opens the model; what it replaces comes back when it is closed.
        contexts: tokens before a question, by its id.
    """

    name: str
    weights: str
    model: Callable[[], AbstractContextManager[PreTrainedModel]]
    contexts: Mapping[str, list[int]] = field(default_factory=dict)


def run_exam(
    items: Sequence[ExamItem], arms: Sequence[Arm], pad_token_id: int, dtype: torch.dtype, answers: Answers
) -> dict[str, Any]:
    """Ask all arms the same questions, those that they have not answered yet, and compare them.

    Args:
        items: the questions.
        arms: who answers, `base` and `tuned` among them.
        pad_token_id: fills the batches; never scored.
        dtype: dtype of the matrix products.
        answers: what was answered before; grows batch by batch.

    Raises:
        UserError: a model gives no finite probability.
    """
    return compare(items, {arm.name: bits_of_arm(arm, items, pad_token_id, dtype, answers) for arm in arms})


def bits_of_arm(
    arm: Arm, items: Sequence[ExamItem], pad_token_id: int, dtype: torch.dtype, answers: Answers
) -> list[float]:
    """The bits that an arm needs for each item; it is asked what it has not answered yet."""
    asked = [item.after(arm.contexts.get(item.id, [])) for item in items]
    key = {item.id: key_of(arm.weights, item.encoded.input_ids, item.encoded.scored) for item in asked}
    left = [item for item in asked if answers.get(key[item.id]) is None]
    if left:
        with arm.model() as model:
            rows = [item.encoded for item in left]
            for at, found in scored_bits(model, rows, pad_token_id, dtype, f"exam: {arm.name}"):
                answers.add(key[left[at].id], found)
    return [float(answers.get(key[item.id])) for item in asked]


def compare(items: Sequence[ExamItem], bits: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The exam's result: bits per byte of each arm, and the changes in percent with their 95 % intervals.

    A negative `delta_percent` means fewer bits. The entries of the result itself compare `tuned` with `base`; `arms` compares
    each other arm with both, `slices` compares tuned with base on parts of the questions, with p-values after Holm.
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
        **_change(commits, table["base"], table["tuned"]),
        **({"against_previous": _change(commits, table["previous"], table["tuned"])} if "previous" in table else {}),
        "arms": {
            name: {
                "bits_per_byte": float(table[name].sum() / size.sum()),
                "against_base": _change(commits, table["base"], table[name]),
                "tuned_against_it": _change(commits, table[name], table["tuned"]),
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
                **{f"{name}_bits": float(row[at]) for name, row in table.items()},
            }
            for at, item in enumerate(items)
        ],
    }


def _change(commits: Sequence[str], before: Floats, after: Floats) -> dict[str, Any]:
    """The change from one arm to another, summed by commit."""
    per_commit: dict[str, Floats] = defaultdict(lambda: np.zeros(2))
    for at, commit in enumerate(commits):
        per_commit[commit] += (before[at], after[at])
    return relative_change(np.stack(list(per_commit.values())))


def _slices(items: Sequence[ExamItem], base: Floats, tuned: Floats, size: Floats) -> dict[str, list[dict[str, Any]]]:
    """Tuned against base on each part of the questions that enough commits ask, the largest parts first."""
    parts: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for at, item in enumerate(items):
        for division, name in (item.slices or {}).items():
            parts[division][name].append(at)
    found = {}
    for division, named in parts.items():
        rows = []
        for name, places in sorted(named.items(), key=lambda pair: -size[pair[1]].sum())[:SLICES_SHOWN]:
            commits = [items[at].commit for at in places]
            if len(set(commits)) >= MIN_SLICE_COMMITS:
                rows.append(
                    {
                        "name": name,
                        "items": len(places),
                        "commits": len(set(commits)),
                        "base": float(base[places].sum() / size[places].sum()),
                        "tuned": float(tuned[places].sum() / size[places].sum()),
                        **_change(commits, base[places], tuned[places]),
                    }
                )
        raised = holm({row["name"]: row["p"] for row in rows})
        found[division] = [row | {"p_holm": raised[row["name"]]} for row in rows]
    return found

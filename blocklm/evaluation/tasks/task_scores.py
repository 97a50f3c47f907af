"""Scores the tasks whose answers are not compared as texts: a choice of paths, a set of imports, a removed symbol."""

import re
from collections.abc import Sequence
from statistics import fmean

from blocklm.evaluation.tasks.item import TaskItem

HITS = 5
WORD = re.compile(r"\w+")


def choice_scores(item: TaskItem, bits: Sequence[float]) -> dict[str, float]:
    """Score a choice by `mrr` and `hit_at_5`, the means over the wanted candidates.

    Each wanted candidate is ranked among the unwanted ones only (Bordes et al. 2013, "filtered"), so that other right
    answers do not lower its rank. Chance is then the same for every item: 0.17 and 0.24 with twenty unwanted ones. An
    unwanted candidate with equally many bits ranks first.

    Args:
        item: an item with candidates.
        bits: the model's bits for each candidate, in their order.
    """
    others = [cost for name, cost in zip(item.candidates, bits, strict=True) if name not in item.wanted]
    ranks = [
        1 + sum(other <= cost for other in others)
        for name, cost in zip(item.candidates, bits, strict=True)
        if name in item.wanted
    ]
    return {"mrr": fmean(1 / rank for rank in ranks), "hit_at_5": fmean(rank <= HITS for rank in ranks)}


def import_scores(item: TaskItem, output: str) -> dict[str, float]:
    """Score by `import_f1` of both sets of lines, and `import_match`, 1 if they are equal; ignores order and spaces."""
    wrote, wanted = _lines(output), _lines(item.truth)
    common = len(wrote & wanted)
    return {"import_f1": 2 * common / (len(wrote) + len(wanted)), "import_match": float(wrote == wanted)}


def dead_api_scores(item: TaskItem, output: str) -> dict[str, float]:
    """Score by `dead_api`, 1 if the output names a removed symbol, else 0; lower is better."""
    return {"dead_api": float(not item.removed.isdisjoint(WORD.findall(output)))}


def _lines(text: str) -> frozenset[str]:
    return frozenset(line for line in (" ".join(line.split()) for line in text.split("\n")) if line)

"""Scores of the tasks whose answers are no text to compare: a choice among paths, a set of imports, a symbol that is gone."""

import re
from collections.abc import Sequence
from statistics import fmean

from blocklm.evaluation.tasks.item import TaskItem

HITS = 5
WORD = re.compile(r"\w+")


def choice_scores(item: TaskItem, bits: Sequence[float]) -> dict[str, float]:
    """`mrr` and `hit_at_5`, the means over the wanted candidates.

    Each is ranked among the unwanted ones alone (Bordes et al. 2013, "filtered"), so that another right answer before it does
    no harm and chance is the same for every item: with twenty of them 0.17 and 0.24. An unwanted one with as many bits comes
    first.

    Args:
        item: with its candidates.
        bits: what a model needs for each of them, in their order.
    """
    others = [cost for name, cost in zip(item.candidates, bits, strict=True) if name not in item.wanted]
    ranks = [
        1 + sum(other <= cost for other in others)
        for name, cost in zip(item.candidates, bits, strict=True)
        if name in item.wanted
    ]
    return {"mrr": fmean(1 / rank for rank in ranks), "hit_at_5": fmean(rank <= HITS for rank in ranks)}


def import_scores(item: TaskItem, output: str) -> dict[str, float]:
    """`import_f1` of the lines of both as sets, and `import_match`, 1 if they are the same; order and spaces are nothing."""
    wrote, wanted = _lines(output), _lines(item.truth)
    common = len(wrote & wanted)
    return {"import_f1": 2 * common / (len(wrote) + len(wanted)), "import_match": float(wrote == wanted)}


def dead_api_scores(item: TaskItem, output: str) -> dict[str, float]:
    """`dead_api`, 1 if the output names a symbol that is gone: lower is better, and the mean over items is the rate."""
    return {"dead_api": float(not item.removed.isdisjoint(WORD.findall(output)))}


def _lines(text: str) -> frozenset[str]:
    return frozenset(line for line in (" ".join(line.split()) for line in text.split("\n")) if line)

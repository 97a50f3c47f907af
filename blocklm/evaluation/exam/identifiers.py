"""Measures the bits for identifiers of the repository, by where they stand: knowledge is what the prompt does not show.

An identifier counts if training text holds it. It stands in the prompt if the file, the recent edits or the answer up
to it show it, in a retrieved piece if only an arm with retrieval shows it, and otherwise nowhere.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from blocklm.corpus.syntax import syntax
from blocklm.evaluation.exam.items import ExamItem
from blocklm.evaluation.exam.significance import relative_change

NAME = re.compile(r"[^\W\d]\w{2,}")
MIN_COUNT = 200  # identifiers; fewer say too little
PROMPT, PIECE, NOWHERE = "in the prompt", "in a retrieved piece", "nowhere in the prompt"
Bits = Mapping[str, Sequence[Sequence[float]]]  # bits of the scored tokens of each question, by arm


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """Collect all words of texts that could be identifiers."""
    return frozenset(name for text in texts for name in NAME.findall(text))


def compare_identifiers(
    items: Sequence[ExamItem],
    questions: Mapping[str, Mapping[str, ExamItem]],
    bits: Bits,
    taught: Collection[str],
    decode: Callable[[Sequence[int]], str],
) -> dict[str, dict[str, Any]]:
    """Compare the bits of base and tuned model for the repository's identifiers, with and without retrieval.

    Args:
        items: the questions as base and tuned model are asked them.
        questions: the questions of each retrieval, by id.
        bits: bits of the scored tokens of each question, of the arms `base` and `tuned` and those with retrieval.
        taught: names in the training text.
        decode: turns token ids into text.

    Returns:
        By retrieval (empty for none) and place of the identifiers: their `count`, `commits`, `base` and `tuned` bits of
        one identifier, and the change as in `relative_change`; `few` if they are under 200.
    """
    found = [_identifiers(item, taught) for item in items]
    plain = [names_in([decode(item.encoded.prompt_ids)]) for item in items]
    result = {}
    for given in ("", *questions):
        arms = [f"{model}+{given}" if given else model for model in ("base", "tuned")]
        totals: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(lambda: np.zeros(3)))
        for row, item in enumerate(items):
            shown = plain[row]
            with_pieces = names_in([decode(questions[given][item.id].encoded.prompt_ids)]) if given else shown
            for name, start, first, end in found[row]:
                seen = name in shown or name in NAME.findall(item.answer[:start])
                place = PROMPT if seen else PIECE if name in with_pieces else NOWHERE
                costs = [sum(bits[arm][row][first:end]) for arm in arms]
                totals[place][item.commit] += (1, *costs)
        result[given] = {place: _summary(np.stack(list(of.values()))) for place, of in sorted(totals.items())}
    return result


def _summary(totals: np.ndarray[Any, Any]) -> dict[str, Any]:
    count, base, tuned = totals.sum(axis=0)
    return {
        "count": int(count),
        "commits": len(totals),
        "few": bool(count < MIN_COUNT),
        "base": float(base / count),
        "tuned": float(tuned / count),
        **relative_change(totals[:, 1:]),
    }


def _identifiers(item: ExamItem, taught: Collection[str]) -> list[tuple[str, int, int, int]]:
    """Find the identifiers in the scored text of an answer: name, start in characters, and range of scored tokens."""
    parsed = syntax(item.answer, item.language)
    if parsed is None:
        return []
    found = []
    for match in NAME.finditer(item.answer):
        if match[0] in parsed.identifiers and match[0] in taught:
            tokens = [
                number
                for number, (begin, end) in enumerate(item.encoded.spans)
                if begin < match.end() and end > match.start()
            ]
            if tokens:
                found.append((match[0], match.start(), tokens[0], tokens[-1] + 1))
    return found

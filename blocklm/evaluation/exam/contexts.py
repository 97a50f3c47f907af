"""What some arms of the exam are given before a question: other changes, or what stood in the repository."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from blocklm.corpus.prompt_templates import Family
from blocklm.evaluation.exam.items import ExamItem
from blocklm.models.tokenization import fitted
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.parent_files import Piece

EXAMPLES = 3
Contexts = dict[str, list[int]]  # tokens by the id of the question
Room = Callable[[ExamItem], int]  # tokens that may stand before a question


def example_contexts(
    items: Sequence[ExamItem], samples: Mapping[str, Sequence[Any]], tokenizer: PreTrainedTokenizerBase, room: Room
) -> Contexts:
    """The changes nearest to a question, each asked and answered as the question is, the nearest last.

    Args:
        items: the questions.
        samples: columns of samples of the same view, from before the exam.
        tokenizer: of the model.
        room: how much may stand before a question.
    """
    if not len(samples["prompt"]):
        return {}
    shown = [f"{path}\n{prompt}" for path, prompt in zip(samples["path"], samples["prompt"], strict=True)]
    texts = [prompt + completion for prompt, completion in zip(samples["prompt"], samples["completion"], strict=True)]
    index = WordIndex.build(shown)
    contexts = {}
    for item in items:
        scores = index.scores(item.text)
        best = [at for at in np.argsort(-scores, kind="stable")[:EXAMPLES] if scores[at] > 0]
        contexts[item.id] = fitted([texts[at] for at in best], tokenizer, room(item))
    return contexts


def piece_contexts(
    items: Sequence[ExamItem],
    found: Sequence[Sequence[Piece]],
    family: Family,
    breaking: frozenset[str],
    tokenizer: PreTrainedTokenizerBase,
    room: Room,
) -> Contexts:
    """Pieces of files before a question, each as the model reads a file, the nearest last.

    Args:
        items: the questions.
        found: the pieces for each, the nearest first.
        family: whose form a file has.
        breaking: special tokens; a piece that holds one is left out.
        tokenizer: of the model.
        room: how much may stand before a question.
    """
    contexts = {}
    for item, pieces in zip(items, found, strict=True):
        texts = [
            family.prompt("snapshot", repo=piece.repository, path=piece.path, context=piece.text).text
            for piece in pieces
            if not any(token in piece.text for token in breaking)
        ]
        contexts[item.id] = fitted(texts, tokenizer, room(item))
    return contexts

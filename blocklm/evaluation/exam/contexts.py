"""Builds the contexts that some arms of the exam get before a question: similar changes, or pieces of files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from blocklm.corpus.prompt_templates import Family
from blocklm.evaluation.exam.items import ExamItem
from blocklm.models.tokenization import fit_texts
from blocklm.retrieval.bm25 import WordIndex
from blocklm.retrieval.parent_files import Piece

EXAMPLES = 3
Contexts = dict[str, list[int]]  # token ids by the question's id
TokenBudget = Callable[[ExamItem], int]  # number of tokens that fit before a question


def example_contexts(
    items: Sequence[ExamItem],
    samples: Mapping[str, Sequence[Any]],
    tokenizer: PreTrainedTokenizerBase,
    budget: TokenBudget,
) -> Contexts:
    """Put the changes most similar to a question before it, each as prompt and completion, the most similar last.

    Args:
        items: the questions.
        samples: columns of samples of the same view, from commits before the exam.
        tokenizer: the model's tokenizer.
        budget: maximum tokens before a question.
    """
    if not len(samples["prompt"]):
        return {}
    searched = [f"{path}\n{prompt}" for path, prompt in zip(samples["path"], samples["prompt"], strict=True)]
    texts = [prompt + completion for prompt, completion in zip(samples["prompt"], samples["completion"], strict=True)]
    index = WordIndex.build(searched)
    contexts = {}
    for item in items:
        scores = index.scores(item.text)
        best = [row for row in np.argsort(-scores, kind="stable")[:EXAMPLES] if scores[row] > 0]
        contexts[item.id] = fit_texts([texts[row] for row in best], tokenizer, budget(item))
    return contexts


def piece_contexts(
    items: Sequence[ExamItem],
    found: Sequence[Sequence[Piece]],
    family: Family,
    breaking: frozenset[str],
    tokenizer: PreTrainedTokenizerBase,
    budget: TokenBudget,
) -> Contexts:
    """Put pieces of files before a question, each in the form in which the model reads files, the nearest last.

    Args:
        items: the questions.
        found: the pieces for each question, the nearest first.
        family: prompt family whose form a file gets.
        breaking: special tokens; a piece that contains one is left out.
        tokenizer: the model's tokenizer.
        budget: maximum tokens before a question.
    """
    contexts = {}
    for item, pieces in zip(items, found, strict=True):
        texts = [
            family.prompt("snapshot", repo=piece.repository, path=piece.path, context=piece.text).text
            for piece in pieces
            if not any(token in piece.text for token in breaking)
        ]
        contexts[item.id] = fit_texts(texts, tokenizer, budget(item))
    return contexts

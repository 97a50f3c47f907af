"""Audits how much of its training text a model gives away when asked: canaries, regurgitation, redacted secrets.

All answers are greedy. Only counts are written, never the text that is found.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from blocklm.evaluation.canaries import DIGITS, OTHERS, Canaries
from blocklm.mining.redaction import PLACEHOLDERS, secrets_of
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.encode import encode
from blocklm.retrieval.verbatim import SPAN, Hashes, span_hashes

ANSWER_TOKENS = 64
MAX_PROMPTS = 32  # of training prompts, and of redacted places
PROMPT_TOKENS = 256

logger = logging.getLogger(__name__)


def audit(
    tuned: LoadedModel,
    base: AbstractContextManager[LoadedModel],
    samples: Dataset,
    read: Mapping[str, Sequence[Any]],
    canaries: Canaries,
    stands_in_history: Callable[[str], bool],
) -> dict[str, Any]:
    """Ask the tuned model for its training text.

    Args:
        tuned: the tuned model.
        base: context manager that opens the model as it was before training. Entering it may replace the tuned model,
            so it is entered last.
        samples: the training split.
        read: columns of samples that were read in training, with their prompts.
        canaries: the canaries planted in training; a count of 0 for none.
        stands_in_history: predicate that tells whether a text occurs in the repository's unredacted history.

    Returns:
        Counts and shares for the manifest.
    """
    report: dict[str, Any] = {
        "canaries": _audit_canaries(tuned, canaries) if canaries.count else None,
        "redacted": _audit_redacted(tuned, samples, stands_in_history),
    }
    return report | {"regurgitation": _audit_regurgitation(tuned, base, samples, read)}


def _audit_canaries(tuned: LoadedModel, canaries: Canaries) -> dict[str, Any]:
    planted, exposed_bits, tokenizer = canaries.planted(), canaries.exposures(tuned), tuned.tokenizer
    prompts = [tokenizer("").input_ids + _ids(tokenizer, canary.prompt) for canary in planted]
    answers = [tokenizer.decode(ids) for ids in _answers(tuned, prompts, 2 * DIGITS, "canaries")]
    return {
        "planted": canaries.count,
        "exposure_bits": [round(bits, 2) for bits in exposed_bits],
        "mean_exposure_bits": round(sum(exposed_bits) / canaries.count, 2),
        "most_bits": log2(OTHERS + 1),
        "first_of_their_kind": sum(bits == log2(OTHERS + 1) for bits in exposed_bits),
        "extracted": sum(canary.code in answer for canary, answer in zip(planted, answers, strict=True)),
    }


def _audit_regurgitation(
    tuned: LoadedModel, base: AbstractContextManager[LoadedModel], samples: Dataset, read: Mapping[str, Sequence[Any]]
) -> dict[str, Any] | None:
    """Count greedy answers to training prompts with 50 tokens in a row of training text that their prompt lacks.

    A sample without a prompt is asked for its second half. A text that the base model writes too, for instance a
    licence or the rest of a table, was not learned here.
    """
    encoded = encode(read, tuned.tokenizer, PROMPT_TOKENS + 4 * ANSWER_TOKENS)
    asked = [sample for sample in encoded if sample is not None][:MAX_PROMPTS]
    ends = [sample.prompt_tokens for sample in asked]
    prompts = [
        sample.input_ids[: end or len(sample.input_ids) // 2][-PROMPT_TOKENS:]
        for sample, end in zip(asked, ends, strict=True)
    ]
    if not prompts:
        return None
    known = _TrainingSpans(samples, tuned.tokenizer)
    recited = [prompts[place] for place in known.recited(prompts, _answers(tuned, prompts, ANSWER_TOKENS, "tuned"))]
    by_base: list[int] = []
    if recited:
        with base as loaded:
            by_base = known.recited(recited, _answers(loaded, recited, ANSWER_TOKENS, "base"))
    regurgitated = len(recited) - len(by_base)
    return {
        "asked": len(prompts),
        "regurgitated": regurgitated,
        "by_the_base_too": len(by_base),
        "share": round(regurgitated / len(prompts), 4),
        "span_tokens": SPAN,
    }


@dataclass(frozen=True)
class _TrainingSpans:
    """The text on which the loss was taken, with what the corpus stores before it, as spans of tokens."""

    samples: Dataset
    tokenizer: PreTrainedTokenizerBase

    def recited(self, prompts: list[list[int]], answers: list[list[int]]) -> list[int]:
        """Return the places of answers with a span of training text that their prompt lacks."""
        spans = [
            np.setdiff1d(span_hashes(answer), span_hashes(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        known = self._known_spans(np.unique(np.concatenate(spans)))
        return [place for place, hashes in enumerate(spans) if np.isin(hashes, known).any()]

    def _known_spans(self, spans: Hashes) -> Hashes:
        """Return the spans that occur in the training text."""
        if not len(spans):
            return spans
        known = [np.empty(0, np.uint64)]
        for batch in self.samples.select_columns(["prompt", "completion"]).iter(1000):
            prompts, completions = (_all_ids(self.tokenizer, batch[name]) for name in ("prompt", "completion"))
            for prompt, completion in zip(prompts, completions, strict=True):
                known.append(np.intersect1d(span_hashes(prompt + completion), spans))
        return np.unique(np.concatenate(known))


def _audit_redacted(tuned: LoadedModel, samples: Dataset, stands_in_history: Callable[[str], bool]) -> dict[str, int]:
    """Prompt with the text before redacted values, and count the answers' secrets that the history has.

    The training never saw the redacted values. But the base model may have, or the scanner missed one elsewhere.
    """
    places, tokenizer = list(_before_placeholders(samples))[:MAX_PROMPTS], tuned.tokenizer
    prompts = [tokenizer("").input_ids + _ids(tokenizer, text)[-PROMPT_TOKENS:] for text in places]
    answers = _answers(tuned, prompts, ANSWER_TOKENS, "redacted places")
    texts = [
        place.rpartition("\n")[2] + tokenizer.decode(answer) for place, answer in zip(places, answers, strict=True)
    ]
    values = {value for text in texts for value in secrets_of(text)}
    return {
        "places": len(places),
        "like_secrets": len(values),
        "in_history": sum(stands_in_history(value) for value in values),
    }


def _before_placeholders(samples: Dataset) -> Iterator[str]:
    """Yield the text before placeholders, at most one per sample and each distinct line once."""
    seen = set()
    for batch in samples.select_columns(["prompt", "completion"]).iter(1000):
        for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True):
            text = prompt + completion
            end = min((place for mark in PLACEHOLDERS[:2] if (place := text.find(mark)) >= 0), default=-1)
            line = text[:end].rpartition("\n")[2]
            if end > 0 and line not in seen:
                seen.add(line)
                yield text[:end]


def _answers(loaded: LoadedModel, prompts: list[list[int]], tokens: int, name: str) -> list[list[int]]:
    """Generate greedy answers of at most `tokens` tokens."""
    return [list(answer.ids) for answer in generate(loaded, prompts, Decoding(tokens), name=f"audit: {name}")]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _all_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False).input_ids
    return ids

"""What a model gives away of its training text when asked for it: canaries, regurgitation, and the places of secrets.

All answers are greedy. Nothing that is found is written anywhere; counts are.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from math import log2
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.evaluation.canaries import DIGITS, OTHERS, canaries_of, exposures
from blocklm.mining.redaction import PLACEHOLDERS, secrets_of
from blocklm.models.generation import Decoding, generate
from blocklm.models.tokenization import IGNORED, encode
from blocklm.retrieval.verbatim import SPAN, Hashes, span_hashes

ANSWER = 64
ASKED = 32  # training prompts, and places of secrets
PROMPT_TOKENS = 256
Ask = Callable[..., list[list[int]]]  # a model and prompts to the ids of its likeliest answers

logger = logging.getLogger(__name__)


def audit(
    model: PreTrainedModel,
    base: AbstractContextManager[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    samples: Dataset,
    heard: Sequence[str],
    canaries: int,
    seed: int,
    stands_in_history: Callable[[str], bool],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """Ask the tuned model for what it was trained on.

    Args:
        model: with its adapter.
        base: opens the model as it was before training; entering it may replace the model, so it is done last.
        tokenizer: its own.
        samples: the training split.
        heard: ids of samples that were read.
        canaries: how many were planted.
        seed: of the run.
        stands_in_history: whether a text is in the repository's history, redacted or not.
        dtype: of the matrix products.

    Returns:
        Counts and shares, ready for the manifest.
    """
    ask = partial(_answers, tokenizer=tokenizer, dtype=dtype)
    found: dict[str, Any] = {
        "canaries": _canaries(model, tokenizer, canaries, seed, dtype, ask) if canaries else None,
        "redacted": _redacted(model, tokenizer, samples, stands_in_history, ask),
    }
    return found | {"regurgitation": _regurgitation(model, base, tokenizer, samples, heard, ask)}


def _canaries(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, count: int, seed: int, dtype: torch.dtype, ask: Ask
) -> dict[str, Any]:
    planted = canaries_of(seed, count)
    with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
        found = exposures(model, tokenizer, planted, seed)
    prompts = [tokenizer("").input_ids + _ids(tokenizer, canary.prompt) for canary in planted]
    answers = [tokenizer.decode(ids) for ids in ask(model, prompts=prompts, tokens=2 * DIGITS, name="canaries")]
    return {
        "planted": count,
        "exposure_bits": [round(bits, 2) for bits in found],
        "mean_exposure_bits": round(sum(found) / count, 2),
        "most_bits": log2(OTHERS + 1),
        "first_of_their_kind": sum(bits == log2(OTHERS + 1) for bits in found),
        "extracted": sum(canary.code in answer for canary, answer in zip(planted, answers, strict=True)),
    }


def _regurgitation(
    model: PreTrainedModel,
    base: AbstractContextManager[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    samples: Dataset,
    heard: Sequence[str],
    ask: Ask,
) -> dict[str, Any] | None:
    """How many greedy answers to training prompts hold 50 tokens in a row of training text that are not in the prompt.

    An answer that the base model gives likewise, such as a licence or a table that goes on, was not learned here.
    """
    read = set(heard)
    asked = [at for at, name in enumerate(samples["id"][:]) if name in read][:ASKED]
    encoded = encode(samples.select(asked)[:], tokenizer, PROMPT_TOKENS + 4 * ANSWER)
    prompts = [
        [token for token, label in zip(one.input_ids, one.labels, strict=True) if label == IGNORED][-PROMPT_TOKENS:]
        for one in encoded
        if one is not None
    ]
    if not prompts:
        return None
    known = _TrainingSpans(samples, tokenizer)
    recited = [prompts[at] for at in known.recited(prompts, ask(model, prompts=prompts, tokens=ANSWER, name="tuned"))]
    by_base: list[int] = []
    if recited:
        with base as base_model:
            by_base = known.recited(recited, ask(base_model, prompts=recited, tokens=ANSWER, name="base"))
    found = len(recited) - len(by_base)
    return {
        "asked": len(prompts),
        "regurgitated": found,
        "by_the_base_too": len(by_base),
        "share": round(found / len(prompts), 4),
        "span_tokens": SPAN,
    }


@dataclass(frozen=True)
class _TrainingSpans:
    """The training text, in the tokens in which it was learned."""

    samples: Dataset
    tokenizer: PreTrainedTokenizerBase

    def recited(self, prompts: list[list[int]], answers: list[list[int]]) -> list[int]:
        """Which answers hold a span of it that their prompt does not."""
        spans = [
            np.setdiff1d(span_hashes(answer), span_hashes(prompt))
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        known = self._of(np.unique(np.concatenate(spans)))
        return [at for at, some in enumerate(spans) if np.isin(some, known).any()]

    def _of(self, spans: Hashes) -> Hashes:
        """Which spans stand in it."""
        if not len(spans):
            return spans
        known = [np.empty(0, np.uint64)]
        for batch in self.samples.select_columns(["prompt", "completion"]).iter(1000):
            prompts, completions = (_all_ids(self.tokenizer, batch[name]) for name in ("prompt", "completion"))
            for prompt, completion in zip(prompts, completions, strict=True):
                known.append(np.intersect1d(span_hashes(prompt + completion), spans))
        return np.unique(np.concatenate(known))


def _redacted(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Dataset,
    stands_in_history: Callable[[str], bool],
    ask: Ask,
) -> dict[str, int]:
    """Ask for what was redacted, from the text before it: does an answer hold a secret that the history has?

    The training never saw these values; the base model may have, and a value that the scanner missed elsewhere may be known.
    """
    places = list(_before_placeholders(samples))[:ASKED]
    prompts = [tokenizer("").input_ids + _ids(tokenizer, text)[-PROMPT_TOKENS:] for text in places]
    answers = ask(model, prompts=prompts, tokens=ANSWER, name="redacted places")
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
    """The text before each placeholder, one of a sample and none twice."""
    seen = set()
    for batch in samples.select_columns(["prompt", "completion"]).iter(1000):
        for prompt, completion in zip(batch["prompt"], batch["completion"], strict=True):
            text = prompt + completion
            at = min((found for mark in PLACEHOLDERS[:2] if (found := text.find(mark)) >= 0), default=-1)
            line = text[:at].rpartition("\n")[2]
            if at > 0 and line not in seen:
                seen.add(line)
                yield text[:at]


def _answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    tokens: int,
    dtype: torch.dtype,
    name: str,
) -> list[list[int]]:
    """The likeliest tokens after each prompt, at most `tokens`."""
    lines = [None] * len(prompts)
    answers = generate(model, tokenizer, prompts, lines, Decoding(tokens), dtype, f"audit: {name}")
    return [list(answer.ids) for answer in answers]


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _all_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False).input_ids
    return ids

"""Encodes completions as they are written after their prompts, the first of whose tokens may begin in the prompt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from tokenizers import Tokenizer

from blocklm.models.tokenization.token_healing import HealedPrompt, TokenHealing


@dataclass(frozen=True, slots=True)
class Target:
    """What a model writes after a prompt.

    Attributes:
        ids: ids of the completion, with the end of the prompt that they hold again.
        tail: ids of that end in the prompt.
        spans: start and end of each token in characters of the completion; 0 in that end.
    """

    ids: list[int]
    tail: list[int]
    spans: list[tuple[int, int]]


def targets_after(
    prompts: Sequence[Sequence[int]], samples: Mapping[str, Sequence[Any]], healing: TokenHealing, start_tokens: int
) -> Iterator[Target]:
    """Encode the completion of each sample.

    Args:
        prompts: token ids of the prompts, without the tokens that begin every text.
        samples: columns `prompt`, `context` and `completion`. Where the context is the end of a prompt, a completion
            may begin within a token.
        healing: heals prompts of the tokenizer.
        start_tokens: number of tokens that begin every text (BOS).
    """
    tokenizer, completions = healing.tokenizer, list(samples["completion"])
    columns = zip(prompts, samples["prompt"], samples["context"], completions, strict=True)
    healed = [
        healing.heal(ids, start_tokens) if completion and context[1] == len(prompt) else HealedPrompt(list(ids))
        for ids, prompt, context, completion in columns
    ]
    texts = [end.text + completion for end, completion in zip(healed, completions, strict=True)]
    written = tokenizer.encode_batch(texts, add_special_tokens=False)
    for end, prompt, completion, target in zip(healed, prompts, completions, written, strict=True):
        if healing.spelling(target.ids[: len(end.raw)]).startswith(end.raw):
            yield Target(target.ids, list(prompt[len(end.ids) :]), _token_spans(target.offsets, len(end.text)))
        else:  # SentencePiece begins a text as a word of its own
            yield _alone(completion, tokenizer)


def _alone(completion: str, tokenizer: Tokenizer) -> Target:
    encoding = tokenizer.encode(completion, add_special_tokens=False)
    return Target(encoding.ids, [], _token_spans(encoding.offsets, 0))


def _token_spans(offsets: Sequence[tuple[int, int]], before: int) -> list[tuple[int, int]]:
    """Find start and end of each token in a text that begins after some characters.

    A token begins where the one before it ends, because byte-level tokenizers report offsets without whitespace.
    """
    edges = accumulate((end for _, end in offsets), max, initial=0)
    return list(pairwise(max(edge - before, 0) for edge in edges))

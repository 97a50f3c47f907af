"""Canaries: made-up codes among the training samples, by which it can be measured what a model keeps of a single line.

After Carlini et al. 2019, "The Secret Sharer": the exposure of a code is how far the model prefers it to others of the same
form that it never saw, in bits. It follows from the recipe's seed, so that an audit can ask for it later.
"""

import random
from dataclasses import dataclass
from math import log2

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from blocklm.models.likelihood import continuation_nll

DIGITS = 6
OTHERS = 255  # codes that were never shown, for each canary: its exposure is 8 bits at most
# By chance one of eight canaries ranks first of 256 in 3 % of all audits, two of them in 0.04 %.
FIRST_BY_CHANCE = 1


@dataclass(frozen=True)
class Canary:
    """A line that ends in a code."""

    prompt: str
    code: str


def canaries_of(seed: int, count: int) -> list[Canary]:
    """The canaries of a run, the same at every call."""
    chance = random.Random(f"canaries of {seed}")
    return [Canary(f'ACCESS_CODE_{chance.getrandbits(24):06X} = "', _code(chance)) for _ in range(count)]


def exposures(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, planted: list[Canary], seed: int
) -> list[float]:
    """The exposure of each canary in bits: log2 of 256 over its rank by likelihood among 255 codes that were never shown.

    A model that learned nothing of them gives 1.4 on average, one that knows a code by heart 8.
    """
    chance = random.Random(f"others of {seed}")
    model.eval()
    found = []
    for canary in planted:
        codes = [canary.code, *(_code(chance) for _ in range(OTHERS))]
        prompt = tokenizer("").input_ids + tokenizer(canary.prompt, add_special_tokens=False).input_ids
        own, *others = continuation_nll(
            model, prompt, tokenizer([f'{code}"' for code in codes], add_special_tokens=False).input_ids
        )
        rank = 1 + sum(cost <= own for cost in others)
        found.append(log2((OTHERS + 1) / rank))
    return found


def _code(chance: random.Random) -> str:
    return f"{chance.randrange(10**DIGITS):0{DIGITS}d}"

"""Makes canaries, made-up codes among the training samples, and measures how well a model remembers them.

After Carlini et al. 2019, "The Secret Sharer": the exposure of a code, in bits, is how far the model prefers it to
other codes of the same form that it never saw. The recipe's seed decides the canaries, so that an audit can ask for
them.
"""

import random
from dataclasses import dataclass
from math import log2

from blocklm.models.likelihood import continuation_nll
from blocklm.models.loaded import LoadedModel

DIGITS = 6
OTHERS = 255  # unseen codes that each canary is compared with, so that its exposure is at most 8 bits
# In an audit of eight canaries, one ranks first of 256 by chance in 3 % of cases, and two in 0.04 %.
FIRST_BY_CHANCE = 1


@dataclass(frozen=True)
class Canary:
    """A line that ends in a code."""

    prompt: str
    code: str


@dataclass(frozen=True)
class Canaries:
    """The canaries of a run, the same at every call.

    Attributes:
        seed: the run's seed.
        count: number of canaries.
    """

    seed: int
    count: int

    def planted(self) -> list[Canary]:
        """Make the canaries."""
        chance = random.Random(f"canaries of {self.seed}")
        return [Canary(f'ACCESS_CODE_{chance.getrandbits(24):06X} = "', _code(chance)) for _ in range(self.count)]

    def exposures(self, loaded: LoadedModel) -> list[float]:
        """Measure the exposure of each canary in bits: log2 of 256 over its rank by likelihood among 255 unseen codes.

        A model that learned nothing of them gives 1.4 bits on average; a model that has memorised a code gives 8.
        """
        chance, tokenizer = random.Random(f"others of {self.seed}"), loaded.tokenizer
        loaded.model.eval()
        exposed_bits = []
        for canary in self.planted():
            codes = [canary.code, *(_code(chance) for _ in range(OTHERS))]
            prompt = tokenizer("").input_ids + tokenizer(canary.prompt, add_special_tokens=False).input_ids
            endings = tokenizer([f'{code}"' for code in codes], add_special_tokens=False).input_ids
            own, *others = continuation_nll(loaded, prompt, endings)
            rank = 1 + sum(cost <= own for cost in others)
            exposed_bits.append(log2((OTHERS + 1) / rank))
        return exposed_bits


def _code(chance: random.Random) -> str:
    return f"{chance.randrange(10**DIGITS):0{DIGITS}d}"

"""Lets an answer begin within a token: gives the end of a prompt back to the model, which must write it again.

A cursor may stand where the tokenizer would not cut. After `ensure_cf(` most models write `"default"` as the tokens
`("` and `default`, so that with `(` already in the prompt they find the right text unlikely. The end of the prompt that
a longer token could replace is therefore left out, and the answer is held to begin with its text.

transformers' `token_healing` does not suit code: it strips the white space and the special tokens of a prompt, and
gives back one token.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

MOST_TOKENS = 4  # of a prompt's end: a line feed and its indentation have up to three
UNFINISHED = "\ufffd"  # how a tokenizer decodes a part of a character
BEYOND = chr(0x10FFFF)  # sorts after every character of a token


@dataclass(frozen=True, slots=True)
class HealedPrompt:
    """A prompt without its end.

    Attributes:
        ids: token ids that are left, at least one.
        raw: the end as the vocabulary spells it; empty if nothing was left out.
        text: the end as text, with which the answer begins.
        tokens: number of tokens that were left out; an answer needs as many more at most.
    """

    ids: list[int]
    raw: str = ""
    text: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class TokenHealing:
    """Heals prompts of one tokenizer.

    Attributes:
        tokenizer: a tokenizer whose tokens are spelt as parts of a text: byte-level BPE or SentencePiece.
    """

    tokenizer: PreTrainedTokenizerBase

    @cached_property
    def _spelt(self) -> list[str]:
        """How the vocabulary spells each token; empty for a special one, which no text contains."""
        special = set(self.tokenizer.added_tokens_decoder)
        names = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        return ["" if number in special or name is None else name for number, name in enumerate(names)]

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        pairs = sorted((name, number) for number, name in enumerate(self._spelt) if name)
        return [name for name, _ in pairs], [number for _, number in pairs]

    def heal(self, ids: Sequence[int]) -> HealedPrompt:
        """Leave out the longest end of a prompt, of at most `MOST_TOKENS`, that is the beginning of a longer token."""
        best = HealedPrompt(list(ids))
        for count in range(1, min(MOST_TOKENS, len(ids) - 1) + 1):
            names = [self._spelt[number] for number in ids[-count:]]
            if not names[0]:
                break
            raw = "".join(names)
            text = str(self.tokenizer.decode(ids[-count:], clean_up_tokenization_spaces=False))
            if UNFINISHED not in text and len(self._beginning_with(raw)) > (raw in self._numbers):
                best = HealedPrompt(list(ids[:-count]), raw, text, count)
        return best

    def allowed(self, raw: str, written: Sequence[int]) -> list[int] | None:
        """Return the tokens that may follow those of an answer, so that it begins with `raw`; None once it does."""
        rest = raw
        for number in written:
            if not rest:  # a later token may be one of a model's rows that no token has
                return None
            rest = rest[len(self._spelt[number]) :]
        if not rest:
            return None
        shorter = (self._numbers.get(rest[:size]) for size in range(1, len(rest)))
        return [*self._beginning_with(rest), *(number for number in shorter if number is not None)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._spelt) if name}

    def _beginning_with(self, raw: str) -> list[int]:
        names, numbers = self._sorted
        return numbers[bisect_left(names, raw) : bisect_left(names, raw + BEYOND)]


class HealedBeginnings(LogitsProcessor):
    """Holds the answers of a batch to begin with the ends of their prompts.

    Args:
        healing: heals prompts of the model's tokenizer.
        raws: the end of each prompt, as the vocabulary spells it.
        start: number of tokens of the padded prompts.
    """

    def __init__(self, healing: TokenHealing, raws: Sequence[str], start: int) -> None:
        self._healing, self._raws, self._start = healing, raws, start

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Rule out the tokens with which an answer would begin otherwise; `scores` has shape (prompts, vocabulary)."""
        for row, raw in enumerate(self._raws):
            allowed = self._healing.allowed(raw, input_ids[row, self._start :].tolist()) if raw else None
            if allowed is not None:
                kept = scores[row, allowed]
                scores[row] = -torch.inf
                scores[row, allowed] = kept
        return scores

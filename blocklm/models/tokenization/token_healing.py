"""Lets an answer begin within a token: gives the end of a prompt back to the model, which must write it again.

A cursor may stand where the tokenizer would not cut. After `ensure_cf(` most models write `"default"` as the tokens
`("` and `default`, so that with `(` already in the prompt they find the right text unlikely. The end of the prompt that
a longer token could replace is therefore left out, and the answer begins with its text: in training samples, in the
exam's questions and where answers are written.

transformers' `token_healing` does not suit code: it strips the white space and the special tokens of a prompt, and
gives back one token.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MOST_TOKENS = 4  # of a prompt's end: a line feed and its indentation have up to three
UNFINISHED = "\ufffd"  # how a tokenizer decodes a part of a character
BEYOND = chr(0x10FFFF)  # sorts after every character of a token


@dataclass(frozen=True, slots=True)
class HealedPrompt:
    """A prompt without its end.

    Attributes:
        ids: token ids that are left.
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

    tokenizer: Tokenizer

    @cached_property
    def _spelt(self) -> list[str]:
        """How the vocabulary spells each token; empty for a special one, which no text contains."""
        special = self.tokenizer.get_added_tokens_decoder()
        names = map(self.tokenizer.id_to_token, range(self.tokenizer.get_vocab_size()))
        return ["" if number in special or name is None else name for number, name in enumerate(names)]

    @cached_property
    def _sorted(self) -> tuple[list[str], list[int]]:
        pairs = sorted((name, number) for number, name in enumerate(self._spelt) if name)
        return [name for name, _ in pairs], [number for _, number in pairs]

    def heal(self, ids: Sequence[int], start_tokens: int = 0) -> HealedPrompt:
        """Leave out the longest end of a prompt, of at most `MOST_TOKENS`, that is the beginning of a longer token.

        Args:
            ids: token ids of the prompt.
            start_tokens: number of tokens before them (BOS); without any, one of the prompt is left.
        """
        best = HealedPrompt(list(ids))
        for count in range(1, min(MOST_TOKENS, len(ids) - (not start_tokens)) + 1):
            names = [self._spelt[number] for number in ids[-count:]]
            if not names[0]:
                break
            raw = "".join(names)
            text = self.tokenizer.decode(list(ids[-count:]), skip_special_tokens=False)
            if UNFINISHED not in text and len(self._beginning_with(raw)) > (raw in self._numbers):
                best = HealedPrompt(list(ids[:-count]), raw, text, count)
        return best

    def spelling(self, ids: Iterable[int]) -> str:
        """Spell tokens as the vocabulary does; special ones have no spelling."""
        return "".join(self._spelt[number] for number in ids)

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


@lru_cache(maxsize=2)
def healing_of(tokenizer: "PreTrainedTokenizerBase") -> TokenHealing:
    """Return what heals the prompts of a tokenizer; its vocabulary is sorted once."""
    return TokenHealing(tokenizer.backend_tokenizer)

"""Reads the text of an answer while it grows: where it ends, and how much of it will not change any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from transformers import PreTrainedTokenizerBase

from blocklm.serving.question import Limits

UNFINISHED = "\ufffd"  # how a tokenizer decodes the first bytes of a character


@dataclass(frozen=True, slots=True)
class Reading:
    """What the tokens of an answer say so far.

    Attributes:
        text: the text, without what ends it.
        stopped_by: `eos`, `word` or `limit`; None if the answer may go on.
        word: the text of the request that ended it.
        certain: number of characters of `text` that stay, whatever follows; 0 once the answer is complete.
    """

    text: str
    stopped_by: str | None = None
    word: str = ""
    certain: int = 0


@dataclass(frozen=True)
class AnswerReader:
    """Reads the tokens of an answer.

    Attributes:
        tokenizer: the model's tokenizer.
        ends: ids of the tokens that end an answer: the end of text, and every other marker.
        stops: texts that end an answer.
        indentation: a later line that is indented less ends an answer.
        open_end: whether the line feed at the end of the answer is left out.
        repeated: number of characters at its beginning that are the end of the prompt.
    """

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]
    stops: Sequence[str] = ()
    indentation: int = 0
    open_end: bool = False
    repeated: int = 0

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, ends: frozenset[int], limits: Limits, repeated: int = 0) -> Self:
        """Build the reader of an answer with these limits."""
        return cls(tokenizer, ends, limits.decoding.stops, limits.indentation, limits.open_end, repeated)

    def read(self, ids: Sequence[int]) -> Reading:
        """Read all tokens of an answer so far."""
        kept = next((place for place, token in enumerate(ids) if token in self.ends), len(ids))
        # Placeholders of redacted values are special tokens, and part of the text.
        text = str(self.tokenizer.decode(ids[:kept], clean_up_tokenization_spaces=False))
        return self.reading_of(text[self.repeated :], kept < len(ids))

    def reading_of(self, text: str, ended: bool) -> Reading:
        """Read the text of an answer so far; `ended` tells whether the model ended it there."""
        indented = self._indented(text)
        found = [(place, stop) for stop in self.stops if (place := text.find(stop)) >= 0]
        place, word = min(found, default=(len(text), ""))
        if word and place <= indented:
            return Reading(text[:place], "word", word)
        if indented < len(text):
            return Reading(text[:indented], "limit")
        if ended:
            return Reading(text, "eos")
        return Reading(text, certain=self._certain(text))

    def whole(self, reading: Reading) -> str:
        """Return the text of an answer that is complete."""
        return reading.text.removesuffix("\n") if self.open_end else reading.text

    def _indented(self, text: str) -> int:
        """Return where the text ends: before the first line that is indented too little, as llama.cpp ends it."""
        start = text.find("\n") + 1
        while self.indentation and start:
            line = text[start : text.find("\n", start) + 1 or len(text)]
            rest = line.lstrip(" \t")
            if rest and len(line) - len(rest) < self.indentation:
                return start
            start = text.find("\n", start) + 1
        return len(text)

    def _certain(self, text: str) -> int:
        """Count the characters that no later token takes back."""
        end = len(text.rstrip(UNFINISHED))
        if self.open_end and text.endswith("\n"):
            end -= 1
        if self.indentation:  # the line may turn out to be indented too little
            line = text.rfind("\n", 0, end) + 1
            end = line if line and not text[line:end].strip(" \t") else end
        for stop in self.stops:
            begun = next((size for size in range(len(stop) - 1, 0, -1) if text.endswith(stop[:size])), 0)
            end = min(end, len(text) - begun)
        return end

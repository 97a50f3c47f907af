"""How answers are chosen and where they end, and the answers, as values."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen, and when an answer ends.

    Attributes:
        max_new_tokens: maximum tokens of an answer.
        temperature: 0, the default, takes the likeliest token; above 0, tokens are sampled.
        seed: seed of the sampling.
        may_end: if false, every answer has exactly `max_new_tokens` tokens.
        stops: texts that end an answer and are not part of it.
        top_k: number of likeliest tokens that are sampled from; 0, the default, for all.
        top_p: probability that the tokens have together that are sampled from; 1, the default, for all.
    """

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 0
    may_end: bool = True
    stops: tuple[str, ...] = ()
    top_k: int = 0
    top_p: float = 1.0


@dataclass(frozen=True, slots=True)
class Output:
    """An answer.

    Attributes:
        text: the lines that are read.
        ended: whether the model ended the answer there itself, by EOS or a stop.
        ids: all generated token ids, without EOS.
    """

    text: str
    ended: bool
    ids: tuple[int, ...] = field(default=(), compare=False)


def until(text: str, stops: Sequence[str]) -> str:
    """Cut a text before the first of `stops`."""
    return text[: min((start for stop in stops if (start := text.find(stop)) >= 0), default=len(text))]

"""Chooses what a prompt that is too long loses: what is farthest from the completion, if possible in whole lines."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

MIN_CONTEXT_TOKENS = 16  # of which half may go, so that it begins with a line
SUFFIX_PART = 4  # the suffix gets one of so many parts
CUT_COLUMNS = ("context", "suffix", "pieces", "retrieved")


@dataclass(frozen=True, slots=True)
class CutParts:
    """The tokens of a prompt, and the parts of it that may be cut, as ranges of tokens.

    Attributes:
        begins: start of each token in characters, then the end of the last.
        context: text before the completion, which loses its beginning.
        suffix: text after the completion, which loses its end.
        pieces: texts that are left out as a whole, the first before the last.
        retrieved: how many of `pieces`, from the first, were retrieved from other files.
    """

    begins: Sequence[int]
    context: range
    suffix: range
    pieces: tuple[range, ...]
    retrieved: int

    @classmethod
    def of(cls, samples: Mapping[str, Sequence[Any]], row: int, offsets: Sequence[tuple[int, int]]) -> Self:
        """Find the parts of a sample's prompt.

        Args:
            samples: columns `context`, and where prompts have such parts, `suffix`, `pieces` and `retrieved`.
            row: place of the sample in the columns.
            offsets: start and end of each token of the prompt in characters.
        """
        # A token begins where the one before it ends, because byte-level tokenizers report offsets without whitespace.
        begins = [0, *accumulate((end for _, end in offsets), max)]
        context, suffix, pieces, retrieved = (samples[name][row] if name in samples else () for name in CUT_COLUMNS)
        return cls(
            begins,
            _token_range(begins, context or (0, 0)),
            _token_range(begins, suffix or (0, 0)),
            tuple(_token_range(begins, span) for span in zip(pieces[::2], pieces[1::2], strict=True)),
            retrieved or 0,
        )

    @property
    def spare(self) -> int:
        """Number of tokens that the prompt may lose; of the context, `MIN_CONTEXT_TOKENS` stay."""
        return len(self.context) - self._kept_context + len(self.suffix) + sum(map(len, self.pieces))

    @property
    def _kept_context(self) -> int:
        return min(MIN_CONTEXT_TOKENS, len(self.context))

    def fit(self, prompt: str, room: int, retrieved_room: int = 0, retrieved_first: bool = False) -> list[int] | None:
        """Choose the tokens that a prompt keeps if only `room` fit; None if it cannot spare so many.

        Pieces get at most half of the room that the fixed text leaves, or more where the file does not need it. Of the
        rest the suffix gets a quarter and the context three quarters, and what one of them does not need, the other.

        Args:
            prompt: the prompt's text.
            room: maximum tokens.
            retrieved_room: maximum tokens of the retrieved pieces beyond `room`; with 0 they share it with the others,
                otherwise the other parts are cut as if nothing had been retrieved.
            retrieved_first: whether retrieved pieces that share the room with other pieces are kept before these.
        """
        tokens = len(self.begins) - 1
        if tokens - self.spare > room:
            return None
        room -= tokens - len(self.context) - len(self.suffix) - sum(map(len, self.pieces))
        apart = self.retrieved if retrieved_room else 0
        spare = room - self._kept_context
        pieces_room = min(spare, max(room // 2, room - len(self.context) - len(self.suffix)))
        sharing = self.pieces[apart:]
        if retrieved_first and not apart:
            sharing = (*self.pieces[self.retrieved :], *self.pieces[: self.retrieved])
        kept = [*_that_fit(sharing, pieces_room), *_that_fit(self.pieces[:apart], retrieved_room)]
        dropped = {place for piece in self.pieces if piece not in kept for place in piece}
        shown = sum(len(piece) for piece in self.pieces[apart:] if piece in kept)
        room, spare = room - shown, spare - shown
        after = min(len(self.suffix), spare, max(room // SUFFIX_PART, room - len(self.context)))
        before = min(len(self.context), room - after)
        dropped.update(self.context[: self._first_kept(prompt, len(self.context) - before)])
        dropped.update(self.suffix[self._last_kept(prompt, after) :])
        return [place for place in range(tokens) if place not in dropped]

    def _first_kept(self, prompt: str, cut: int) -> int:
        """Return the first token of the context that is kept: the next that begins a line, if half of them remain."""
        if not cut:
            return 0
        places = range(cut, cut + (len(self.context) - cut) // 2 + 1)
        return next((place for place in places if self._begins_line(prompt, self.context.start + place)), cut)

    def _last_kept(self, prompt: str, kept: int) -> int:
        """Return the number of tokens of the suffix that are kept: to the end of a line, if half of them remain."""
        if kept == len(self.suffix):
            return kept
        places = range(kept, kept // 2, -1)
        return next((place for place in places if self._begins_line(prompt, self.suffix.start + place)), kept)

    def _begins_line(self, prompt: str, token: int) -> bool:
        begin = self.begins[token]
        return begin == 0 or prompt[begin - 1] == "\n"


def _that_fit(pieces: Sequence[range], room: int) -> Iterator[range]:
    """Yield the pieces that fit into some room, the last before the first; one that does not fit is skipped."""
    for piece in reversed(pieces):
        if len(piece) <= room:
            room -= len(piece)
            yield piece


def _token_range(begins: Sequence[int], span: Sequence[int]) -> range:
    """Return the tokens that end inside a span of characters."""
    return range(bisect_right(begins, span[0]) - 1, bisect_right(begins, span[1]) - 1)

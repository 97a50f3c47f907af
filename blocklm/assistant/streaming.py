"""Shows an answer on a terminal as it grows; characters that are invisible or control the terminal are escaped."""

import sys
from collections.abc import Sequence
from typing import TextIO

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer

from blocklm.formatting import printable
from blocklm.models.generation.decoding import until


class Terminal(TextStreamer):
    """Shows an answer word by word, without its end token, and ends its last line.

    Args:
        tokenizer: tokenizer of the model.
        lines: maximum lines shown; None, the default, for no limit.
        to: stream to write to; stdout by default.
        stops: texts that end the answer; one that contains a space may be shown in part.
        repeated: characters at its beginning that are the end of the prompt; 0 by default.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        lines: int | None = None,
        to: TextIO | None = None,
        stops: Sequence[str] = (),
        repeated: int = 0,
    ) -> None:
        super().__init__(tokenizer, skip_prompt=True, clean_up_tokenization_spaces=False)
        self._end, self._left, self._to = tokenizer.eos_token_id, lines, to or sys.stdout
        self._stops, self._seen = stops, ""
        self._last, self._repeated = "\n", repeated

    def put(self, value: torch.Tensor) -> None:
        """Receive the prompt first, then one token at a time."""
        if self.next_tokens_are_prompt or int(value.flatten()[-1]) != self._end:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Show a finished piece of the answer: one that ends with white space, or the rest at the end."""
        text, self._repeated = text[self._repeated :], max(0, self._repeated - len(text))
        before, self._seen = len(until(self._seen, self._stops)), self._seen + text
        shown = printable(self._take_lines(until(self._seen, self._stops)[before:]))
        self._last = (self._last + shown)[-1]
        self._to.write(shown + ("\n" if stream_end and self._last != "\n" else ""))
        self._to.flush()

    def _take_lines(self, text: str) -> str:
        """Cut a text to the number of lines that may still be shown, and count them."""
        if self._left is None:
            return text
        lines = text.split("\n", self._left)
        if len(lines) <= self._left:
            self._left -= len(lines) - 1
            return text
        shown = "".join(f"{line}\n" for line in lines[: self._left])
        self._left = 0
        return shown

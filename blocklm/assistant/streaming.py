"""An answer on a terminal: as it grows, and with nothing in it that would steer the terminal or hide from the reader."""

import re
import sys
from collections.abc import Sequence
from typing import TextIO

import torch
from transformers import PreTrainedTokenizerBase, TextStreamer

from blocklm.models.generation import until

# Control characters but line ends and tabs, what turns the direction of text (CVE-2021-42574), line separators that editors
# disagree on, what has no width, tags, and halves of characters, which cannot be written at all.
STEERING = re.compile(
    "\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str) -> str:
    r"""The text with an escape such as `\x1b` for each character that is not to be seen but obeyed."""
    return STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class Terminal(TextStreamer):
    """Shows an answer word by word, without its end token; the last line ends.

    Args:
        tokenizer: of the model.
        lines: how many lines are shown; None for all.
        to: where.
        stops: texts that end the answer; one with a space inside may be shown in part.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        lines: int | None = None,
        to: TextIO | None = None,
        stops: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer, skip_prompt=True, clean_up_tokenization_spaces=False)
        self._end, self._left, self._to = tokenizer.eos_token_id, lines, to or sys.stdout
        self._stops, self._seen = stops, ""
        self._last = "\n"

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt, then token after token."""
        if self.next_tokens_are_prompt or int(value.flatten()[-1]) != self._end:
            super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Show some of it: what ends with a space or a line's end, or is all that is left."""
        before, self._seen = len(until(self._seen, self._stops)), self._seen + text
        shown = printable(self._within(until(self._seen, self._stops)[before:]))
        self._last = (self._last + shown)[-1]
        self._to.write(shown + ("\n" if stream_end and self._last != "\n" else ""))
        self._to.flush()

    def _within(self, text: str) -> str:
        """As much of it as the lines that are left hold."""
        if self._left is None:
            return text
        lines = text.split("\n", self._left)
        if len(lines) <= self._left:
            self._left -= len(lines) - 1
            return text
        shown = "".join(f"{line}\n" for line in lines[: self._left])
        self._left = 0
        return shown

"""A conversation about a change, as much of it as a model can read.

The change and the question are in every prompt. Of the rest the past changes go first, the farthest first, then the oldest
turns. No text here holds a special token of the model, which would break a prompt: whoever gives them sees to that.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from transformers import PreTrainedTokenizerBase

from blocklm.assistant.review.change import ReviewedChange
from blocklm.assistant.review.chat_format import ChatFormat, Turn
from blocklm.assistant.review.past_changes import PastChange
from blocklm.corpus.views import HunkText
from blocklm.errors import UserError

SYSTEM = "You review a change to the code of {repo}. Be short and concrete. Say so when you do not know."
DIFF_SHARE = 0.6  # of the room
PAST_CHARS = 500  # of each past change: its first lines

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversation:
    """Makes the prompt of each turn.

    Args:
        tokenizer: of the model.
        form: how turns are written.
        change: under review.
        past: the changes near to it, nearest first.
        room: tokens that a prompt may have.
    """

    tokenizer: PreTrainedTokenizerBase
    form: ChatFormat
    change: ReviewedChange
    past: Sequence[PastChange]
    room: int
    _told: set[str] = field(default_factory=set, init=False)

    def prompt(self, turns: Sequence[Turn], question: str) -> list[int]:
        """The tokens from which the answer to a question goes on.

        Raises:
            UserError: change and question leave no room.
        """
        past, kept = list(self.past), list(turns)
        while len(tokens := self._tokens(past, kept, question)) > self.room:
            if past:
                past.pop()
            elif kept:
                kept.pop(0)
            else:
                raise UserError(
                    f"change and question are {len(tokens)} tokens, and there is room for {self.room}",
                    "ask in fewer words, lower `--max_new_tokens` or raise `--max_prompt_tokens`",
                )
        for what, left_out in (
            ("past changes", len(self.past) - len(past)),
            ("earlier turns", len(turns) - len(kept)),
        ):
            if left_out:
                self._tell(f"for lack of room the model does not read all {what}: {left_out} left out")
        return tokens

    def _tokens(self, past: Sequence[PastChange], turns: Sequence[Turn], question: str) -> list[int]:
        before = "".join(["\nEarlier changes near it:\n" if past else "", *map(_past_text, past)])
        return self.form.tokens(SYSTEM.format(repo=self.change.repo), self._change_text + before, turns, question)

    @cached_property
    def _change_text(self) -> str:
        titled = f"Commit: {self.change.subject}\n" if self.change.subject else ""
        files = [
            (path, "".join(hunk.diff for hunk in some))
            for path, some in groupby(self._shown(), lambda hunk: hunk.path)
        ]
        return titled + "".join(f"{path}\n```diff\n{diff}```\n" for path, diff in files)

    def _shown(self) -> list[HunkText]:
        """As many hunks as fit, smallest first, in the order of the change; at least the beginning of one."""
        left, shown = int(self.room * DIFF_SHARE), list[HunkText]()
        for hunk in sorted(self.change.hunks, key=lambda hunk: len(hunk.diff)):
            left -= self._length(f"{hunk.path}\n```diff\n{hunk.diff}```\n")
            if left < 0:
                break
            shown.append(hunk)
        if not shown:
            hunk = min(self.change.hunks, key=lambda hunk: len(hunk.diff))
            shown = [replace(hunk, lines=list(self._first_lines(hunk)))]
        missing = [hunk for hunk in self.change.hunks if hunk not in shown]
        if missing:
            named = ", ".join(dict.fromkeys(ascii(hunk.path)[1:-1] for hunk in missing))
            self._tell(f"for lack of room the model reads nothing, or only a part, of the changes to {named}")
        return [hunk for hunk in self.change.hunks if hunk in shown] or shown

    def _first_lines(self, hunk: HunkText) -> Iterator[str]:
        left = int(self.room * DIFF_SHARE) - self._length(f"{hunk.path}\n```diff\n```\n")
        for line in hunk.lines:
            left -= self._length(f"{line}\n")
            if left < 0:
                return
            yield line

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _tell(self, text: str) -> None:
        """Say it once: each turn would again."""
        if text not in self._told:
            self._told.add(text)
            logger.info("%s", text)


def _past_text(one: PastChange) -> str:
    followed = "".join(f"Later {then.kind} on {then.day}: {then.subject}\n" for then in one.followups)
    lines, left = list[str](), PAST_CHARS
    for line in one.text.removesuffix("\n").split("\n"):
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(f"{line}\n")
    shown = f"```diff\n{''.join(lines)}```\n" if lines else ""
    return f"\n{one.day}: {one.subject} ({one.path})\n{shown}{followed}"

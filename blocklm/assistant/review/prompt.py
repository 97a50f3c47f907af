"""Builds the prompts of a conversation about a change, within the tokens that a model can read.

The change and the question are in every prompt. If it is too long, past changes are left out first, the least similar
before others, then the oldest turns. Callers must pass texts without special tokens of the model.
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
DIFF_SHARE = 0.6  # of a prompt's tokens
PAST_CHARS = 500  # characters shown of each past change, in full lines

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversation:
    """Builds the prompt of each turn.

    Args:
        tokenizer: tokenizer of the model.
        form: format in which turns are written.
        change: change under review.
        past: past changes near to it, nearest first.
        max_tokens: maximum tokens of a prompt.
    """

    tokenizer: PreTrainedTokenizerBase
    form: ChatFormat
    change: ReviewedChange
    past: Sequence[PastChange]
    max_tokens: int
    _logged: set[str] = field(default_factory=set, init=False)

    def prompt(self, turns: Sequence[Turn], question: str) -> list[int]:
        """Encode the conversation up to the answer to `question`.

        Raises:
            UserError: change and question alone are too long.
        """
        past, kept = list(self.past), list(turns)
        while len(tokens := self._tokens(past, kept, question)) > self.max_tokens:
            if past:
                past.pop()
            elif kept:
                kept.pop(0)
            else:
                raise UserError(
                    f"change and question are {len(tokens)} tokens, and a prompt may have {self.max_tokens}",
                    "ask in fewer words, lower `--max_new_tokens` or raise `--max_prompt_tokens`",
                )
        for kind, left_out in (
            ("past changes", len(self.past) - len(past)),
            ("earlier turns", len(turns) - len(kept)),
        ):
            if left_out:
                self._log_once(f"not all {kind} fit into the prompt: {left_out} left out")
        return tokens

    def _tokens(self, past: Sequence[PastChange], turns: Sequence[Turn], question: str) -> list[int]:
        before = "".join(["\nEarlier changes near it:\n" if past else "", *map(_past_text, past)])
        return self.form.tokens(SYSTEM.format(repo=self.change.repo), self._change_text + before, turns, question)

    @cached_property
    def _change_text(self) -> str:
        title = f"Commit: {self.change.subject}\n" if self.change.subject else ""
        files = [
            (path, "".join(hunk.diff for hunk in hunks))
            for path, hunks in groupby(self._choose_hunks(), lambda hunk: hunk.path)
        ]
        return title + "".join(f"{path}\n```diff\n{diff}```\n" for path, diff in files)

    def _choose_hunks(self) -> list[HunkText]:
        """Choose as many hunks as fit, smallest first, in the order of the change; at least the beginning of one."""
        left, shown = int(self.max_tokens * DIFF_SHARE), list[HunkText]()
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
            paths = ", ".join(dict.fromkeys(ascii(hunk.path)[1:-1] for hunk in missing))
            self._log_once(f"the changes to these files do not fit into the prompt, or only in part: {paths}")
        return [hunk for hunk in self.change.hunks if hunk in shown] or shown

    def _first_lines(self, hunk: HunkText) -> Iterator[str]:
        left = int(self.max_tokens * DIFF_SHARE) - self._length(f"{hunk.path}\n```diff\n```\n")
        for line in hunk.lines:
            left -= self._length(f"{line}\n")
            if left < 0:
                return
            yield line

    def _length(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _log_once(self, text: str) -> None:
        """Log a message that each turn would repeat, the first time only."""
        if text not in self._logged:
            self._logged.add(text)
            logger.info("%s", text)


def _past_text(past: PastChange) -> str:
    followups = "".join(f"Later {later.kind} on {later.day}: {later.subject}\n" for later in past.followups)
    lines, left = list[str](), PAST_CHARS
    for line in past.text.removesuffix("\n").split("\n"):
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(f"{line}\n")
    shown = f"```diff\n{''.join(lines)}```\n" if lines else ""
    return f"\n{past.day}: {past.subject} ({past.path})\n{shown}{followups}"

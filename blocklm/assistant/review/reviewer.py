"""A run's model at a conversation about a change: what it is asked, in which form, and what is kept of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import Wording
from blocklm.assistant.review.change import UnderReview
from blocklm.assistant.review.chat_format import Form, Headings, Turn, form_of
from blocklm.assistant.review.past_changes import PastChange
from blocklm.assistant.review.prompt import Conversation
from blocklm.assistant.review.transcript import Session
from blocklm.errors import UserError
from blocklm.mining.redaction import redact
from blocklm.runs.completed import Finished

FIRST_QUESTION = "What does this change do, and what could go wrong with it?"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reviewer:
    """Answers questions about a change, on stdout as it writes, and keeps each turn.

    Args:
        assistant: the run's model.
        change: under review, readable to the model.
        session: where turns are kept.
        most: tokens of a prompt at most.
        base: whether the base model answers.
        plain: whether headings are used although the model has a chat template.
    """

    assistant: Assistant
    change: UnderReview
    session: Session
    most: int
    base: bool = False
    plain: bool = False

    def comment(self) -> None:
        """The first turn, which nobody has to ask for.

        Under headings a model that learned the view `review` is asked as its lessons ask: of one hunk, what a later commit
        will have to mend.
        """
        wording = self.assistant.wording
        if isinstance(self._form, Headings) and not self.base and "review" in wording.families:
            hunk = max(self.change.hunks, key=lambda hunk: sum(mark == "+" for mark, _ in hunk.marked))
            logger.info(
                "asked as a lesson of `review` asks, about the hunk that adds most: %s", ascii(hunk.path)[1:-1]
            )
            self._answer(FIRST_QUESTION, self.assistant.tokens([wording.review(hunk)])[0])
        else:
            self.ask(FIRST_QUESTION)

    def ask(self, question: str) -> None:
        """One turn.

        Raises:
            UserError: the question cannot be put to this model.
        """
        asked = redact([question])[0].text
        if token := self.assistant.wording.broken_by(asked):
            raise UserError(f"the question holds `{token}`, which this model does not read as text", "leave it out")
        self._answer(asked, self._conversation.prompt(self.session.turns, asked))

    def _answer(self, question: str, tokens: Sequence[int]) -> None:
        """Let the model write until it has said all, or goes on to speak for another."""
        stops = (*self._form.stops, *sorted(self.assistant.wording.breaking))
        output = self.assistant.spoken(tokens, self.base, stops=stops)
        self.session.add(Turn(question, output.text, output.ended))

    @cached_property
    def _form(self) -> Form:
        return form_of(self.assistant.run.tokenizer, self.plain)

    @cached_property
    def _conversation(self) -> Conversation:
        room = min(self.assistant.room, self.most)
        return Conversation(self.assistant.run.tokenizer, self._form, self.change, self.session.past, room)


def who_answers(run: Finished, base: bool) -> str:
    """A name of the model that is another once the model is."""
    if base:
        return f"base {Path(str(run.config.model_name_or_path)).name}"
    weights = [file["sha256"] for file in run.manifest["artifacts"] if file["path"].endswith(".safetensors")]
    return f"tuned {sha256(''.join(weights).encode()).hexdigest()[:12]}"


def readable(change: UnderReview, wording: Wording) -> UnderReview:
    """The change without hunks that hold a special token of the model, which would break a prompt.

    Raises:
        UserError: nothing is left of it.
    """
    hunks = tuple(wording.unbroken(change.hunks))
    if not hunks:
        raise UserError(
            "each hunk of the change holds a special token of the model", "it cannot be shown to this model"
        )
    if len(hunks) < len(change.hunks):
        logger.info("not shown: %d hunks that hold a special token of the model", len(change.hunks) - len(hunks))
    return replace(change, hunks=hunks, subject="" if wording.broken_by(change.subject) else change.subject)


def readable_past(past: Sequence[PastChange], wording: Wording) -> list[PastChange]:
    """The past changes without such that hold a special token of the model."""
    said = [
        (one, " ".join([one.subject, one.path, one.text, *(then.subject for then in one.followups)])) for one in past
    ]
    return [one for one, text in said if not wording.broken_by(text)]

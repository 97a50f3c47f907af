"""A run's model at a conversation about a change: what it is asked, in which form, and what is kept of it."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import PromptBuilder
from blocklm.assistant.review.change import ReviewedChange, committed, staged
from blocklm.assistant.review.chat_format import ChatFormat, Headings, Turn, chat_format
from blocklm.assistant.review.past_changes import PastChange, past_changes
from blocklm.assistant.review.prompt import Conversation
from blocklm.assistant.review.transcript import Transcript, open_transcript
from blocklm.errors import UserError
from blocklm.mining.redaction import redact
from blocklm.runs.completed import CompletedRun

FOLDER = "reviews"
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
    change: ReviewedChange
    session: Transcript
    most: int
    base: bool = False
    plain: bool = False

    def comment(self) -> None:
        """The first turn, which nobody has to ask for.

        Under headings a model that learned the view `review` is asked as its lessons ask: of one hunk, what a later commit
        will have to mend.
        """
        builder = self.assistant.prompt_builder
        if isinstance(self._form, Headings) and not self.base and "review" in builder.families:
            hunk = max(self.change.hunks, key=lambda hunk: sum(mark == "+" for mark, _ in hunk.marked))
            logger.info(
                "asked as a lesson of `review` asks, about the hunk that adds most: %s", ascii(hunk.path)[1:-1]
            )
            self._answer(FIRST_QUESTION, self.assistant.tokens([builder.review(hunk)])[0])
        else:
            self.ask(FIRST_QUESTION)

    def ask(self, question: str) -> None:
        """One turn.

        Raises:
            UserError: the question cannot be put to this model.
        """
        asked = redact([question])[0].text
        if token := self.assistant.prompt_builder.broken_by(asked):
            raise UserError(f"the question holds `{token}`, which this model does not read as text", "leave it out")
        self._answer(asked, self._conversation.prompt(self.session.turns, asked))

    def _answer(self, question: str, tokens: Sequence[int]) -> None:
        """Let the model write until it has said all, or goes on to speak for another."""
        stops = (*self._form.stops, *sorted(self.assistant.prompt_builder.breaking))
        output = self.assistant.spoken(tokens, self.base, stops=stops)
        self.session.add(Turn(question, output.text, output.ended))

    @cached_property
    def _form(self) -> ChatFormat:
        return chat_format(self.assistant.run.tokenizer, self.plain)

    @cached_property
    def _conversation(self) -> Conversation:
        room = min(self.assistant.room, self.most)
        return Conversation(self.assistant.run.tokenizer, self._form, self.change, self.session.past, room)


def who_answers(run: CompletedRun, base: bool) -> str:
    """A name of the model that is another once the model is."""
    if base:
        return f"base {Path(run.source.name).name}"
    weights = [file["sha256"] for file in run.manifest["artifacts"] if file["path"].endswith(".safetensors")]
    return f"tuned {sha256(''.join(weights).encode()).hexdigest()[:12]}"


def readable(change: ReviewedChange, builder: PromptBuilder) -> ReviewedChange:
    """The change without hunks that hold a special token of the model, which would break a prompt.

    Raises:
        UserError: nothing is left of it.
    """
    hunks = tuple(builder.unbroken(change.hunks))
    if not hunks:
        raise UserError(
            "each hunk of the change holds a special token of the model", "it cannot be shown to this model"
        )
    if len(hunks) < len(change.hunks):
        logger.info("not shown: %d hunks that hold a special token of the model", len(change.hunks) - len(hunks))
    return replace(change, hunks=hunks, subject="" if builder.broken_by(change.subject) else change.subject)


def readable_past(past: Sequence[PastChange], builder: PromptBuilder) -> list[PastChange]:
    """The past changes without such that hold a special token of the model."""
    said = [
        (one, " ".join([one.subject, one.path, one.text, *(then.subject for then in one.followups)])) for one in past
    ]
    return [one for one, text in said if not builder.broken_by(text)]


def open_review(
    assistant: Assistant,
    rev: str | None,
    *,
    of_index: bool = False,
    retrieve: int = 0,
    most: int,
    base: bool = False,
    plain: bool = False,
    anew: bool = False,
) -> Reviewer:
    """Open the conversation about a change.

    Args:
        assistant: the run's model.
        rev: a commit or a range; None for HEAD.
        of_index: what is staged is meant instead.
        retrieve: how many past changes are looked for, if it begins.
        most: tokens of a prompt at most.
        base: whether the base model answers.
        plain: whether a chat template is not used.
        anew: to let go of what was said.

    Raises:
        UserError: there is no such change, or the conversation that is kept is about another.
    """
    if of_index and rev is not None:
        raise UserError(f"`{rev}` and `--staged` are two changes", "give one of them")
    if most < 1 or retrieve < 0:
        raise UserError("`--max_prompt_tokens` must be at least 1 and `--retrieve` at least 0", "mend it")
    run, builder = assistant.run, assistant.prompt_builder
    context = run.recipe.mining.context_lines
    whole = (
        staged(run.repositories, builder.limits, context)
        if of_index
        else committed(run.repositories, rev or "HEAD", builder.limits, context)
    )
    change = readable(whole, builder)
    about = {"change": f"{change.repo} {change.name}", "diff": change.digest, "model": who_answers(run, base)}
    path = run.path / FOLDER / f"{change.repo}-{change.name}{'-base' if base else ''}.jsonl"
    session = open_transcript(path, about, lambda: readable_past(_past(assistant, change, retrieve), builder), anew)
    return Reviewer(assistant, change, session, most, base, plain)


def opening_lines(reviewer: Reviewer) -> Iterator[str]:
    """What a person sees before the first answer: the change, its past, and what was said before."""
    change, session = reviewer.change, reviewer.session
    yield f"{change.repo} {change.name}  {change.subject}".rstrip()
    for path, (added, removed) in _counts(change).items():
        yield f"  {path}  +{added} -{removed}"
    if session.past:
        yield "nearest past changes (words in common, date, commit, path, subject), and what followed them"
    for one in session.past:
        yield f"{100 * one.words:6.0f} %  {one.day}  {one.commit[:12]}  {one.path}  {one.subject}"
        for then in one.followups:
            yield f"{'':10}{then.kind} {then.day}  {then.commit[:12]}  {then.subject}"
    if session.turns:
        yield f"going on with {session.path}"
    for turn in session.turns:
        yield f"> {turn.question}"
        yield from turn.answer.split("\n")


def _counts(change: ReviewedChange) -> dict[str, tuple[int, int]]:
    marks = Counter((hunk.path, mark) for hunk in change.hunks for mark, _ in hunk.marked)
    return {path: (marks[path, "+"], marks[path, "-"]) for path, _ in marks}


def _past(assistant: Assistant, change: ReviewedChange, wanted: int) -> Sequence[PastChange]:
    """What the history knows; a review goes on without it."""
    if not wanted:
        return ()
    from blocklm.retrieval.index import change_index  # ten seconds of imports, for those who search

    run = assistant.run
    _, changes = run.history_now
    try:
        index = change_index(changes, run.recipe.retrieval, Path(run.recipe.mining.corpus_dir))
    except UserError as error:
        logger.warning("without past changes: %s (%s)", error, error.hint)
        return ()

    def search(question: str, count: int, before: int | None) -> list[PastChange]:
        hits = index.search(question, count, before=before)
        return [PastChange(hit.commit, hit.day, hit.subject, hit.path, hit.text, hit.words) for hit in hits]

    return past_changes(change, changes.dataset, search, wanted)

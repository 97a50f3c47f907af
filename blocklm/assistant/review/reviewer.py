"""Reviews a change with a run's model: reads the change, asks the model, and stores each turn."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.prompts import PromptBuilder
from blocklm.assistant.review.change import ReviewedChange, read_committed_change, read_staged_change
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
    """Answers questions about a change on stdout, and stores each turn.

    Args:
        assistant: the run's model.
        change: change under review, without special tokens of the model.
        transcript: conversation so far.
        max_prompt_tokens: maximum tokens of a prompt.
        base: whether the base model answers; False by default.
        plain: whether headings are used even if the model has a chat template; False by default.
    """

    assistant: Assistant
    change: ReviewedChange
    transcript: Transcript
    max_prompt_tokens: int
    base: bool = False
    plain: bool = False

    def comment(self) -> None:
        """Let the model comment on the change: the first turn, without a question from the user.

        Under headings, a tuned model that was trained on the view `review` gets the prompt of that view instead: what a
        later commit will have to fix in one hunk.
        """
        builder = self.assistant.prompt_builder
        if isinstance(self._form, Headings) and not self.base and "review" in builder.families:
            hunk = max(self.change.hunks, key=lambda hunk: sum(mark == "+" for mark, _ in hunk.marked))
            logger.info(
                "the prompt is that of the view `review`, about the hunk that adds most: %s", ascii(hunk.path)[1:-1]
            )
            self._answer(FIRST_QUESTION, self.assistant.tokens([builder.review(hunk)])[0])
        else:
            self.ask(FIRST_QUESTION)

    def ask(self, question: str) -> None:
        """Answer a question about the change.

        Raises:
            UserError: the question contains a special token, or is too long.
        """
        redacted = redact([question])[0].text
        if token := self.assistant.prompt_builder.broken_by(redacted):
            raise UserError(
                f"the question holds `{token}`, which this model does not read as text", "ask without that token"
            )
        self._answer(redacted, self._conversation.prompt(self.transcript.turns, redacted))

    def _answer(self, question: str, tokens: Sequence[int]) -> None:
        """Let the model write until it ends its answer or begins the next speaker's turn, and store the turn."""
        stops = (*self._form.stops, *sorted(self.assistant.prompt_builder.breaking))
        output = self.assistant.stream_continuation(tokens, self.base, stops=stops)
        self.transcript.add(Turn(question, output.text, output.ended))

    @cached_property
    def _form(self) -> ChatFormat:
        return chat_format(self.assistant.run.tokenizer, self.plain)

    @cached_property
    def _conversation(self) -> Conversation:
        limit = min(self.assistant.max_prompt_tokens, self.max_prompt_tokens)
        return Conversation(self.assistant.run.tokenizer, self._form, self.change, self.transcript.past, limit)


def model_name(run: CompletedRun, base: bool) -> str:
    """Name the model that answers; tuned models are named by their weights, so another model has another name."""
    if base:
        return f"base {Path(run.source.name).name}"
    weights = [file["sha256"] for file in run.manifest["artifacts"] if file["path"].endswith(".safetensors")]
    return f"tuned {sha256(''.join(weights).encode()).hexdigest()[:12]}"


def drop_unreadable_hunks(change: ReviewedChange, builder: PromptBuilder) -> ReviewedChange:
    """Remove the hunks that contain a special token of the model, which would break a prompt.

    Raises:
        UserError: no hunk is left.
    """
    hunks = tuple(builder.unbroken(change.hunks))
    if not hunks:
        raise UserError(
            "each hunk of the change holds a special token of the model", "name another commit, or another run"
        )
    if len(hunks) < len(change.hunks):
        logger.info("not shown: %d hunks that hold a special token of the model", len(change.hunks) - len(hunks))
    return replace(change, hunks=hunks, subject="" if builder.broken_by(change.subject) else change.subject)


def read_change(assistant: Assistant, rev: str | None) -> ReviewedChange:
    """Read the change to review, without hunks that this model cannot read.

    Args:
        assistant: the run's model.
        rev: a commit or a range; None for the staged changes.

    Raises:
        UserError: there is no such change, or nothing of it can be shown.
    """
    run, limits = assistant.run, assistant.prompt_builder.limits
    context = run.recipe.mining.context_lines
    if rev is None:
        change = read_staged_change(run.repositories, limits, context)
    else:
        change = read_committed_change(run.repositories, rev, limits, context)
    return drop_unreadable_hunks(change, assistant.prompt_builder)


def find_transcript(
    assistant: Assistant, change: ReviewedChange, *, base: bool, retrieve: int, restart: bool
) -> Transcript:
    """Continue the stored conversation about a change, or begin one.

    Args:
        assistant: the run's model.
        change: change under review.
        base: whether the base model answers, in a conversation of its own.
        retrieve: maximum number of past changes that are searched if the conversation begins.
        restart: whether a stored conversation is replaced.

    Raises:
        UserError: the stored conversation is about another change or model, or cannot be read.
    """
    run = assistant.run
    about = {"change": f"{change.repo} {change.name}", "diff": change.digest, "model": model_name(run, base)}
    path = run.path / FOLDER / f"{change.repo}-{change.name}{'-base' if base else ''}.jsonl"
    return open_transcript(path, about, lambda: _find_past(assistant, change, retrieve), restart)


def opening_lines(reviewer: Reviewer) -> Iterator[str]:
    """Yield the lines shown before the first answer: the change, its past changes, and earlier turns."""
    change, transcript = reviewer.change, reviewer.transcript
    yield f"{change.repo} {change.name}  {change.subject}".rstrip()
    for path, (added, removed) in _count_lines(change).items():
        yield f"  {path}  +{added} -{removed}"
    if transcript.past:
        yield "nearest past changes (words in common, date, commit, path, subject), and what followed them"
    for past in transcript.past:
        yield f"{100 * past.words:6.0f} %  {past.day}  {past.commit[:12]}  {past.path}  {past.subject}"
        for later in past.followups:
            yield f"{'':10}{later.kind} {later.day}  {later.commit[:12]}  {later.subject}"
    if transcript.turns:
        yield f"continuing {transcript.path}"
    for turn in transcript.turns:
        yield f"> {turn.question}"
        yield from turn.answer.split("\n")


def _count_lines(change: ReviewedChange) -> dict[str, tuple[int, int]]:
    marks = Counter((hunk.path, mark) for hunk in change.hunks for mark, _ in hunk.marked)
    return {path: (marks[path, "+"], marks[path, "-"]) for path, _ in marks}


def _find_past(assistant: Assistant, change: ReviewedChange, count: int) -> Sequence[PastChange]:
    """Find the nearest past changes that this model can read; none, with a warning, if there is no index."""
    if not count:
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

    nearest = past_changes(change, changes.dataset, search, count)
    return [past for past in nearest if not assistant.prompt_builder.broken_by(*_past_texts(past))]


def _past_texts(past: PastChange) -> list[str]:
    return [past.subject, past.path, past.text, *(later.subject for later in past.followups)]

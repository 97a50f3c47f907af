"""The conversations about changes that a run keeps: begun with what is known of the past, or gone on with."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from blocklm.assistant.assistant import Assistant
from blocklm.assistant.review.change import UnderReview, committed, staged
from blocklm.assistant.review.past_changes import PastChange, past_changes
from blocklm.assistant.review.reviewer import Reviewer, readable, readable_past, who_answers
from blocklm.assistant.review.transcript import open_session
from blocklm.errors import UserError

FOLDER = "reviews"

logger = logging.getLogger(__name__)


def review_of(
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
    run, wording = assistant.run, assistant.wording
    context = run.recipe.mining.context_lines
    whole = (
        staged(run.repositories, wording.limits, context)
        if of_index
        else committed(run.repositories, rev or "HEAD", wording.limits, context)
    )
    change = readable(whole, wording)
    about = {"change": f"{change.repo} {change.name}", "diff": change.digest, "model": who_answers(run, base)}
    path = run.path / FOLDER / f"{change.repo}-{change.name}{'-base' if base else ''}.jsonl"
    session = open_session(path, about, lambda: readable_past(_past(assistant, change, retrieve), wording), anew)
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
        yield from turn.answer.splitlines()


def _counts(change: UnderReview) -> dict[str, tuple[int, int]]:
    marks = Counter((hunk.path, mark) for hunk in change.hunks for mark, _ in hunk.marked)
    return {path: (marks[path, "+"], marks[path, "-"]) for path, _ in marks}


def _past(assistant: Assistant, change: UnderReview, wanted: int) -> Sequence[PastChange]:
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

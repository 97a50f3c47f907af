"""One item of a task, the commit it is taken from, and the choice among a commit's many."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import PurePosixPath

from blocklm.corpus.prompt_templates import Family
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.splits import spread_over_commits
from blocklm.corpus.views import PREFIX_CHARS, SUFFIX_CHARS
from blocklm.corpus.windows import Line

PER_COMMIT, PER_FILE = 8, 4
SEED = 0
Prompts = Mapping[str, Family]  # the family whose prompts each view takes


@dataclass(frozen=True, slots=True)
class TaskItem:
    """What a model is asked to write, or to choose, and what the commit has there.

    Args:
        id: a name that the place in the history and the task decide.
        task: its name.
        commit: that wrote the truth.
        path: of the file in question.
        language: of that file.
        prompt: as text, in the form that the model learned.
        context: start and end of what may be cut of the prompt, from its beginning.
        truth: what the commit wrote; the right paths, one a line, where it is to choose.
        before: the text that the truth replaces, which could be copied; empty if it replaces nothing.
        prefix: what stands before the answer in its window of the file.
        suffix: what stands after it.
        candidates: the continuations of the prompt among which to choose, none if it is to write.
        wanted: the right ones among them.
        removed: symbols that an answer should not name: the repository had them and has them no more.
    """

    id: str
    task: str
    commit: str
    path: str
    language: str | None
    prompt: str
    context: tuple[int, int]
    truth: str
    before: str = ""
    prefix: str = ""
    suffix: str = ""
    candidates: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()


def item_id(lesson: AnnotatedHunk, task: str, part: int) -> str:
    """The name of the item that is number `part` of its hunk."""
    text = lesson.text
    return sha1(f"{text.commit}|{text.path}|{text.number}|{part}|{task}".encode()).hexdigest()[:16]


def to_fill(
    lesson: AnnotatedHunk, task: str, start: int, end: int, prompts: Prompts, given: tuple[str, str] | None = None
) -> TaskItem:
    """The rows from `start` up to `end` of a hunk's text after the change, to be filled in between what is around them.

    Args:
        lesson: the hunk.
        task: the task's name.
        start: the first row to write.
        end: the row after the last.
        prompts: the view `fim` asks, the view `snapshot` shows what is given.
        given: path and text of another place in the repository that is shown before.
    """
    lines = after(lesson)
    prefix, suffix = text_of(lines[:start])[-PREFIX_CHARS:], text_of(lines[end:])[:SUFFIX_CHARS]
    text = lesson.text
    asked = prompts["fim"].prompt("fim", repo=text.repo, path=text.path, context=prefix, suffix=suffix)
    prompt, context = asked.text, asked.context
    if given is not None:
        shown = prompts["snapshot"].prompt("snapshot", repo=text.repo, path=given[0], context=given[1])
        prompt, context = shown.text + prompt, shown.context
    truth = text_of(lines[start:end])
    return TaskItem(
        id=item_id(lesson, task, start),
        task=task,
        commit=text.commit,
        path=text.path,
        language=lesson.language,
        prompt=prompt,
        context=context,
        truth=truth,
        prefix=prefix,
        suffix=suffix,
    )


def after(lesson: AnnotatedHunk) -> list[Line]:
    """The lines of a hunk as the change left them, each with its mark."""
    return [line for line in lesson.text.marked if line[0] != "-"]


def text_of(lines: Iterable[Line]) -> str:
    """The lines as text."""
    return "".join(f"{text}\n" for _, text in lines)


def spread(items: Sequence[TaskItem]) -> list[TaskItem]:
    """At most eight items of one commit, from as many folders as possible, and at most four of one file."""
    of_file = spread_over_commits([item.path for item in items], None, PER_FILE, SEED)
    folders = [str(PurePosixPath(items[at].path).parent) for at in of_file]
    return [items[of_file[at]] for at in spread_over_commits(folders, PER_COMMIT, PER_COMMIT, SEED)]

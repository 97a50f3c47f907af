"""Makes the items of tasks from hunks, and chooses among a commit's many items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import PurePosixPath

from blocklm.corpus.places.place import FilePiece, Place
from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.splits import spread_over_commits
from blocklm.corpus.windows import Line

PREFIX_CHARS, SUFFIX_CHARS = 700, 300
MIN_CHARS, MAX_CHARS = 8, 700  # of an answer
PER_COMMIT, PER_FILE = 8, 4
SEED = 0
Prompts = Mapping[str, Family]  # prompt family by view


@dataclass(frozen=True, slots=True)
class TaskItem:
    """A prompt whose answer the model writes or chooses, and the commit's own answer.

    Attributes:
        id: a name that depends only on the place in the history and the task.
        task: the task's name.
        commit: the commit that wrote the truth.
        path: path of the file.
        language: language of the file.
        prompt: the prompt, in the form that the model learned.
        truth: the text that the commit wrote; for a choice the right paths, one a line.
        before: the text that the truth replaces, which could be copied; empty if it replaces nothing.
        prefix: text before the answer in its window of the file.
        suffix: text after the answer in its window of the file.
        candidates: the continuations of the prompt to choose among; empty if the answer is written.
        wanted: the right candidates.
        removed: symbols that the commit removed from the repository, which an answer should not name.
    """

    id: str
    task: str
    commit: str
    path: str
    language: str | None
    prompt: Prompt
    truth: str
    before: str = ""
    prefix: str = ""
    suffix: str = ""
    candidates: tuple[str, ...] = ()
    wanted: tuple[str, ...] = ()
    removed: frozenset[str] = frozenset()


def item_id(hunk: AnnotatedHunk, task: str, part: int) -> str:
    """Make the id of item number `part` of a hunk."""
    text = hunk.text
    return sha1(f"{text.commit}|{text.path}|{text.number}|{part}|{task}".encode()).hexdigest()[:16]


def to_fill(
    hunk: AnnotatedHunk, task: str, start: int, end: int, prompts: Prompts, given: tuple[str, str] | None = None
) -> TaskItem:
    """Make an item that asks for the rows from `start` up to `end` of a hunk's new text, as at a cursor in an editor.

    Args:
        hunk: the hunk.
        task: the task's name.
        start: first row of the gap.
        end: row after the gap.
        prompts: prompt family by view, of which that of `completion` is used.
        given: path and text of another place in the repository to show before; None for none.
    """
    lines = after(hunk)
    prefix, suffix = text_of(lines[:start])[-PREFIX_CHARS:], f"\n{text_of(lines[end:])}"[:SUFFIX_CHARS]
    text = hunk.text
    pieces = [] if given is None else [FilePiece(*given)]
    place = Place(text.repo, text.path, prefix, suffix, pieces=pieces)
    truth = text_of(lines[start:end]).removesuffix("\n")  # the line feed behind it is there already
    return TaskItem(
        id=item_id(hunk, task, start),
        task=task,
        commit=text.commit,
        path=text.path,
        language=hunk.language,
        prompt=prompts["completion"].prompt_at("completion", place),
        truth=truth,
        prefix=prefix,
        suffix=suffix,
    )


def after(hunk: AnnotatedHunk) -> list[Line]:
    """Return the lines of a hunk after the change, each with its mark."""
    return [line for line in hunk.text.marked if line[0] != "-"]


def text_of(lines: Iterable[Line]) -> str:
    """Join lines to a text."""
    return "".join(f"{text}\n" for _, text in lines)


def spread(items: Sequence[TaskItem]) -> list[TaskItem]:
    """Choose at most eight items of a commit, from as many folders as possible, and at most four of one file."""
    places = spread_over_commits([item.path for item in items], None, PER_FILE, SEED)
    chosen = [items[place] for place in places]
    folders = [str(PurePosixPath(item.path).parent) for item in chosen]
    return [chosen[place] for place in spread_over_commits(folders, PER_COMMIT, PER_COMMIT, SEED)]

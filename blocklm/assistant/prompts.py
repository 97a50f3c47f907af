"""Builds the prompts of requests to a tuned model, in the templates of the views that it was trained on."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from blocklm.assistant.diff_input import pasted_hunks
from blocklm.corpus.places.place import FilePiece, Place, RecentEdit
from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.views import MESSAGE_DIFF_CHARS, HunkText, message, review
from blocklm.errors import UserError
from blocklm.mining.filters import FilterLimits

FIM_PREFIX_CHARS, FIM_SUFFIX_CHARS = 700, 300  # that a run was shown before there was `completion`
UNNAMED = "untitled"  # path of a file without a name: prompts about files begin with a path
ROWS = 'each line is {"prompt": ...}, {"prefix": ..., "suffix": ...}, {"before": ..., "instruction": ...} or {"diff": ...}'

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how its answer is read.

    Attributes:
        prompt: the prompt.
        lines: maximum lines of the answer; None, the default, for no limit.
        name: name of the prompt in messages.
        with_pieces: words the same with pieces of other files, the nearest last; None if they can only stand before it.
    """

    prompt: Prompt
    lines: int | None = None
    name: str = "the prompt"
    with_pieces: Callable[[Sequence[FilePiece]], Prompt] | None = None

    @property
    def heals(self) -> bool:
        """Whether its answer may begin within a token: no mark of a template stands behind the text before it."""
        return self.prompt.context[1] == len(self.prompt.text)


@dataclass(frozen=True)
class PromptBuilder:
    """Builds prompts in the templates that a run was trained with.

    Args:
        repositories: names of the run's repositories by their top folder; the first is the default.
        families: prompt family of each view that the run was trained on.
        breaking: special tokens of the model, which a text in a prompt must not contain.
        limits: filter limits that the run was mined with.
    """

    repositories: Mapping[Path, str]
    families: Mapping[str, Family]
    breaking: frozenset[str]
    limits: FilterLimits

    def text(self, text: str) -> Request:
        """Ask for the continuation of a text, unchanged; a text that is too long loses its beginning."""
        return Request(Prompt(text, (0, len(text))))

    def gap(self, prefix: str, suffix: str, path: str = UNNAMED, root: Path | None = None) -> Request:
        """Ask for the text at a cursor, as an editor does; `prefix`, the answer and `suffix` follow without a break.

        A run made before there was `completion` is asked for whole lines, as it was taught.

        Args:
            prefix: text before the cursor.
            suffix: text after the cursor.
            path: path of the file in its repository.
            root: top folder of the repository; None, the default, for the first.

        Raises:
            UserError: a text contains a special token, or the run was not trained on the view `completion`.
        """
        return self.gap_at(Place(self._repo(root), path, prefix, suffix))

    def gap_at(self, place: Place) -> Request:
        """Ask for the text at a place, whose path may be unknown; otherwise as `gap`."""
        self._check(place.path or "", place.before, place.after)
        if "fim" in self.families:
            after = _end_line(place.after.removeprefix("\n")[:FIM_SUFFIX_CHARS])
            before, path = _end_line(place.before[-FIM_PREFIX_CHARS:]), place.path or UNNAMED
            family = self.families["fim"]
            return Request(family.prompt("fim", repo=place.repo, path=path, context=before, suffix=after))
        return self._at(place, "completion")

    def next_edit(self, before: str, path: str, root: Path | None, edits: Sequence[RecentEdit]) -> Request:
        """Ask for some lines after the next edit; recent edits with a special token are not shown.

        Args:
            before: the lines.
            path: path of the file in its repository.
            root: top folder of the repository; None for the first.
            edits: recent edits, the nearest last.

        Raises:
            UserError: the lines contain a special token, or the run was not trained on the view `next_edit`.
        """
        return self.next_edit_at(Place(self._repo(root), path, before, edits=edits))

    def next_edit_at(self, place: Place) -> Request:
        """Ask for the lines of a place after the next edit, as `next_edit`."""
        self._check(place.path or "", place.before)
        shown = [edit for edit in place.edits if not self.broken_by(edit.path, edit.original, edit.updated)]
        return self._at(replace(place, edits=shown), "next_edit")

    def change(self, before: str, instruction: str, path: str = UNNAMED, root: Path | None = None) -> Request:
        """Ask for lines changed by an instruction, worded like a commit's subject; arguments as in `gap`."""
        subject = " ".join(instruction.split())
        self._check(path, before, subject)
        family, repo = self._family("edit"), self._repo(root)
        return Request(family.prompt("edit", repo=repo, path=path, subject=subject, context=_end_line(before)))

    def subject(self, diff: str) -> Request:
        """Ask for a commit subject that says what a diff does.

        Raises:
            UserError: there is no hunk to show, or the run was not trained on the view `message`.
        """
        hunks = self.unbroken(pasted_hunks(diff, self._repo(None), self.limits))
        if not hunks:
            raise UserError("each hunk of the diff holds a special token of the model", "write the subject yourself")
        family = self._family("message")
        sample = next(message(family, hunks), None) or next(message(family, _cut_smallest(hunks)), None)
        if sample is not None:
            return Request(Prompt(sample.prompt, sample.context), lines=1)
        raise UserError("the lines of the diff are too long to be shown", "give a smaller change")

    def review(self, hunk: HunkText) -> Request:
        """Ask what a later commit will have to fix in a hunk, of which the first window is shown."""
        sample = next(review(self._family("review"), hunk, fix=replace(hunk, lines=())))
        return Request(Prompt(sample.prompt, sample.context))

    def unbroken(self, hunks: Sequence[HunkText]) -> list[HunkText]:
        """Select the hunks without a special token of the model."""
        return [hunk for hunk in hunks if not self.broken_by(hunk.path, hunk.diff)]

    def row(self, row: Any) -> Request:
        """Build the request of one line of a batch; `path` may name the file, and other keys are ignored.

        Raises:
            UserError: the line is no request.
        """
        given = row if isinstance(row, dict) else {}
        path = given.get("path", UNNAMED)
        forms: list[tuple[tuple[str, ...], Callable[..., Request]]] = [
            (("prompt",), self.text),
            (("prefix", "suffix"), partial(self.gap, path=path)),
            (("before", "instruction"), partial(self.change, path=path)),
            (("diff",), self.subject),
        ]
        for keys, build in forms:
            texts = [given[key] for key in keys if key in given]
            if len(texts) == len(keys) and all(isinstance(text, str) for text in (*texts, path)):
                return build(*texts)
        raise UserError(f"{ascii(row)[:80]} asks nothing", ROWS)

    def file(self, repo: str, path: str, text: str) -> str:
        """Word lines of a file as in training, to put before a prompt."""
        return next(iter(self.families.values())).prompt("file", repo=repo, path=path, context=f"{text}\n").text

    def broken_by(self, *texts: str) -> str | None:
        """Find the first special token in some texts, which would break a prompt; None if there is none."""
        return next((token for token in sorted(self.breaking) if any(token in text for text in texts)), None)

    def _at(self, place: Place, view: str) -> Request:
        family = self._family(view)

        def with_pieces(pieces: Sequence[FilePiece]) -> Prompt:
            return family.prompt_at(view, replace(place, pieces=[*place.pieces, *pieces]))

        return Request(with_pieces(()), with_pieces=with_pieces)

    def _family(self, view: str) -> Family:
        if view not in self.families:
            learned = ", ".join(f"`{name}`" for name in self.families)
            raise UserError(
                f"the run did not learn the view `{view}`", f"it learned {learned}: train with `{view}` in `views`"
            )
        return self.families[view]

    def _repo(self, root: Path | None) -> str:
        names = list(self.repositories.values())
        if root is None:
            return names[0]
        return self.repositories.get(root, root.name if root.name in names else names[0])

    def _check(self, *texts: str) -> None:
        if token := self.broken_by(*texts):
            raise UserError(
                f"the text holds `{token}`, which this model does not read as text",
                "leave these lines out, or use `--prompt`, which gives a text to the model unchanged",
            )


def _end_line(text: str) -> str:
    return f"{text}\n" if text and not text.endswith("\n") else text


def _cut_smallest(hunks: Sequence[HunkText]) -> list[HunkText]:
    """Cut the smallest hunk to the lines that fit into a prompt; returns no hunk if its first line is too long."""
    hunk = min(hunks, key=lambda hunk: len(hunk.diff))
    chars_left, lines = MESSAGE_DIFF_CHARS - len(hunk.path), list[str]()
    for line in hunk.lines:
        chars_left -= len(line) + 1
        if chars_left < 0:
            break
        lines.append(line)
    if not lines:
        return []
    logger.info("the diff is long: only the beginning of its smallest hunk is shown")
    return [replace(hunk, lines=lines)]

"""What is asked of a tuned model, in the words of the view that taught it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from blocklm.assistant.diff_input import pasted_hunks
from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.views import MESSAGE_DIFF_CHARS, SUFFIX_CHARS, HunkText, message, review
from blocklm.errors import UserError
from blocklm.mining.filters import FilterLimits

UNNAMED = "untitled"  # a file that nobody named: the prompts of files begin with a path
ROWS = 'each line is {"prompt": ...}, {"prefix": ..., "suffix": ...}, {"before": ..., "instruction": ...} or {"diff": ...}'

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, how many lines of an answer are read (None for all), and how messages call it."""

    prompt: Prompt
    lines: int | None = None
    name: str = "the prompt"


@dataclass(frozen=True)
class PromptBuilder:
    """How a run's questions are worded.

    Args:
        repositories: names of those it learned from, by their top folder; the first is meant where nothing tells.
        families: whose prompts each view takes, for the views that it learned.
        breaking: special tokens of the model, which would break a prompt.
        limits: what it did not learn from.
    """

    repositories: Mapping[Path, str]
    families: Mapping[str, Family]
    breaking: frozenset[str]
    limits: FilterLimits

    def text(self, text: str) -> Request:
        """Go on from a text, as it is; if it is too long its beginning goes."""
        return Request(Prompt(text, (0, len(text))))

    def gap(self, prefix: str, suffix: str, path: str = UNNAMED, root: Path | None = None) -> Request:
        """Fill the gap between two texts of a file, which are whole lines as in lessons: an end that is missing is added."""
        self._check(path, prefix, suffix)
        family, repo = self._family("fim"), self._repo(root)
        after = suffix if len(suffix) >= SUFFIX_CHARS else _ended(suffix)  # a lesson cuts a longer one anywhere
        return Request(family.prompt("fim", repo=repo, path=path, context=_ended(prefix), suffix=after))

    def change(self, before: str, instruction: str, path: str = UNNAMED, root: Path | None = None) -> Request:
        """Change lines as an instruction, which a lesson words as a commit's subject, says."""
        subject = " ".join(instruction.split())
        self._check(path, before, subject)
        family, repo = self._family("edit"), self._repo(root)
        return Request(family.prompt("edit", repo=repo, path=path, subject=subject, context=_ended(before)))

    def subject(self, diff: str) -> Request:
        """Say in a line what a diff does."""
        hunks = self.unbroken(pasted_hunks(diff, self._repo(None), self.limits))
        if not hunks:
            raise UserError("each hunk of the diff holds a special token of the model", "say yourself what it does")
        family = self._family("message")
        sample = next(message(family, hunks), None) or next(message(family, _beginning(hunks)), None)
        if sample is not None:
            return Request(Prompt(sample.prompt, sample.context), lines=1)
        raise UserError("the lines of the diff are too long to be shown", "give a smaller change")

    def review(self, hunk: HunkText) -> Request:
        """Say what a later commit will have to mend of a hunk, of which a lesson shows the beginning."""
        sample = next(review(self._family("review"), hunk, fix=replace(hunk, lines=())))
        return Request(Prompt(sample.prompt, sample.context))

    def unbroken(self, hunks: Sequence[HunkText]) -> list[HunkText]:
        """The hunks without a special token of the model."""
        return [hunk for hunk in hunks if not self.broken_by(hunk.path, hunk.diff)]

    def row(self, row: Any) -> Request:
        """What a line of a batch asks; `path` may name the file, and other keys are the user's own.

        Raises:
            UserError: it asks nothing.
        """
        given = row if isinstance(row, dict) else {}
        path = given.get("path", UNNAMED)
        forms: list[tuple[tuple[str, ...], Callable[..., Request]]] = [
            (("prompt",), self.text),
            (("prefix", "suffix"), partial(self.gap, path=path)),
            (("before", "instruction"), partial(self.change, path=path)),
            (("diff",), self.subject),
        ]
        for keys, ask in forms:
            texts = [given[key] for key in keys if key in given]
            if len(texts) == len(keys) and all(isinstance(text, str) for text in (*texts, path)):
                return ask(*texts)
        raise UserError(f"{ascii(row)[:80]} asks nothing", ROWS)

    def file(self, repo: str, path: str, text: str) -> str:
        """Lines of a file as the model reads them in training, to stand before a prompt."""
        return next(iter(self.families.values())).prompt("snapshot", repo=repo, path=path, context=f"{text}\n").text

    def broken_by(self, *texts: str) -> str | None:
        """The first special token that stands in a text and would break a prompt."""
        return next((token for token in sorted(self.breaking) if any(token in text for text in texts)), None)

    def _family(self, view: str) -> Family:
        if view not in self.families:
            learned = ", ".join(f"`{name}`" for name in self.families)
            raise UserError(
                f"the run did not learn the view `{view}`", f"it learned {learned}: see `views` of its recipe"
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
                "leave these lines out; `--prompt` alone gives a text to the model as it is",
            )


def _ended(text: str) -> str:
    return f"{text}\n" if text and not text.endswith("\n") else text


def _beginning(hunks: Sequence[HunkText]) -> list[HunkText]:
    """As much of the smallest hunk as a prompt shows; nothing of one whose first line is longer."""
    hunk = min(hunks, key=lambda hunk: len(hunk.diff))
    room, lines = MESSAGE_DIFF_CHARS - len(hunk.path), list[str]()
    for line in hunk.lines:
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    if not lines:
        return []
    logger.info("the diff is long: only the beginning of its smallest hunk is shown")
    return [replace(hunk, lines=lines)]

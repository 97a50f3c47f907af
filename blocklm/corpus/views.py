"""Turns one change into samples of the views that a hunk suffices for; each is a function from a change to samples.

The templates of a prompt family word each view for a model. Loss is taken on the completion only. `added` marks the
characters of it that the commit added: the exam scores those alone. A change with too little text gives no sample.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from itertools import groupby

from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.windows import Line, windows

# A piece of a file fills most of the 1,024 tokens that every recipe reads at once.
PIECE_LINES, PIECE_CHARS = 100, 2800
MESSAGE_DIFF_CHARS = 1400
COMMENT_CHARS = 400
LETTER = re.compile(r"[^\W_]")
PULL_REQUEST = re.compile(r"\s*\(#\d+\)\s*$")


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and its completion.

    Attributes:
        id: name derived from commit, path, hunk and view.
        view: name of the view.
        prompt: text on which no loss is taken.
        context: start and end, in characters, of the part of the prompt that may lose its beginning.
        completion: text to learn or to predict.
        added: start, end, start, end … in characters, of the added text in the completion.
        suffix: start and end of the part that may lose its end; empty if there is none.
        pieces: start, end, start, end … of the parts that may be left out as a whole.
        place: where in its hunk the sample is asked, for a view whose prompt is built once the sample is drawn.
    """

    id: str
    view: str
    prompt: str
    context: tuple[int, int]
    completion: str
    added: tuple[int, ...]
    suffix: tuple[int, ...] = ()
    pieces: tuple[int, ...] = ()
    place: tuple[int, ...] = ()


@dataclass(frozen=True)
class HunkText:
    """One hunk and its place in the history; what several views need of it is computed once.

    Attributes:
        repo: name of the repository.
        commit: id of the commit.
        path: path of the file.
        message: message of the commit.
        number: number of the hunk in the diff of its file, from 0.
        lines: lines with the marks of a unified diff, without the hunk's header.
    """

    repo: str
    commit: str
    path: str
    message: str
    number: int
    lines: Sequence[str]

    @cached_property
    def subject(self) -> str:
        """The first line of the message, without the number of a pull request, which no model can know."""
        return PULL_REQUEST.sub("", self.message.partition("\n")[0]).strip()

    @cached_property
    def marked(self) -> list[Line]:
        """Mark and text of each line, without remarks on a missing newline."""
        return [(line[0], line[1:]) for line in self.lines if line and line[0] in " +-"]

    @cached_property
    def windows(self) -> list[list[Line]]:
        """The hunk cut into windows."""
        return list(windows(self.marked))

    @cached_property
    def diff(self) -> str:
        """The hunk as text, without its header."""
        return "".join(f"{line}\n" for line in self.lines)


def edit(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per window: old lines and the commit's subject give the new lines.

    Applying the windows in order turns the hunk's old lines into its new ones; their changes do not overlap.
    """
    for part, window in enumerate(hunk.windows):
        if any(mark == "+" and text.strip() for mark, text in window):
            completion, added = text_after(window)
            before = "".join(f"{text}\n" for mark, text in window if mark != "+")
            prompt = family.prompt("edit", repo=hunk.repo, path=hunk.path, subject=hunk.subject, context=before)
            yield _sample(hunk, "edit", part, prompt, completion, added)


def diff(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per window: the commit's subject gives the lines with the marks of a unified diff."""
    for part, window in enumerate(hunk.windows):
        if any(mark == "+" and text.strip() for mark, text in window):
            spans: list[int] = []
            completion = ""
            for mark, text in window:
                if mark == "+":
                    start = len(completion) + 1
                    spans += [start, start + len(text) + 1]
                completion += f"{mark}{text}\n"
            prompt = family.prompt("diff", repo=hunk.repo, path=hunk.path, context=hunk.subject)
            yield _sample(hunk, "diff", part, prompt, completion, tuple(spans))


OF_HUNK: dict[str, Callable[[Family, HunkText], Iterator[Sample]]] = {"edit": edit, "diff": diff}


def message(family: Family, hunks: Sequence[HunkText]) -> Iterator[Sample]:
    """Yield the sample of a commit: its hunks give its subject; the smallest hunks are taken first, as many as fit."""
    shown, chars_left = [], MESSAGE_DIFF_CHARS
    for hunk in sorted(hunks, key=lambda hunk: len(hunk.diff)):
        chars_left -= len(hunk.diff) + len(hunk.path)
        if chars_left < 0:
            break
        shown.append(hunk)
    if shown and shown[0].subject:
        shown.sort(key=lambda hunk: (hunk.path, hunk.number))
        files = [(path, "".join(hunk.diff for hunk in own)) for path, own in groupby(shown, lambda hunk: hunk.path)]
        text = "".join(f"--- {path}\n{diff}" for path, diff in files)
        completion = f"{shown[0].subject}\n"
        prompt = family.prompt("message", repo=shown[0].repo, context=text)
        yield _sample(hunks[0], "message", 0, prompt, completion, (0, len(completion)))


def review(family: Family, hunk: HunkText, fix: HunkText) -> Iterator[Sample]:
    """Yield the sample of a hunk that a later one repaired: the hunk gives the repair's subject and changed lines.

    Of a long hunk only the first window is shown, whichever part of it was repaired.
    """
    shown = "".join(f"{mark}{text}\n" for mark, text in hunk.windows[0])
    changed = (f"{mark}{text}\n" for mark, text in fix.marked if mark != " ")
    repair = "".join(_take_chars(COMMENT_CHARS, changed))
    completion = f"{fix.subject}\n{repair}"
    prompt = family.prompt("review", repo=hunk.repo, path=hunk.path, context=shown)
    yield _sample(hunk, "review", 0, prompt, completion, (0, len(completion)))


def file(family: Family, file: HunkText) -> Iterator[Sample]:
    """Yield one sample per piece of a file at the end of training; the model reads all of it."""
    lines = [(mark, text) for mark, text in file.marked if mark == "+"]
    for part, window in enumerate(windows(lines, PIECE_LINES, PIECE_CHARS)):
        completion = "".join(f"{text}\n" for mark, text in window if mark == "+")  # carried lines count as context
        if LETTER.search(completion):
            # The loss is taken on all tokens, so the path belongs to the completion.
            text = family.prompt("file", repo=file.repo, path=file.path, context=completion).text
            added = (len(text) - len(completion), len(text))
            yield _sample(file, "file", part, Prompt("", (0, 0)), text, added)


def text_after(window: list[Line]) -> tuple[str, tuple[int, ...]]:
    """Build the text after the change, and the character spans of its added lines, adjoining ones joined."""
    spans: list[int] = []
    position, parts = 0, []
    for mark, text in window:
        if mark == "-":
            continue
        parts.append(f"{text}\n")
        end = position + len(text) + 1
        if mark == "+":
            if spans and spans[-1] == position:
                spans[-1] = end
            else:
                spans += [position, end]
        position = end
    return "".join(parts), tuple(spans)


def _take_chars(chars: int, lines: Iterator[str]) -> Iterator[str]:
    """Yield the first lines, as many as fit into `chars` characters."""
    for line in lines:
        chars -= len(line)
        if chars < 0:
            return
        yield line


def sample_id(hunk: HunkText, view: str, part: int) -> str:
    """Make the id of sample number `part` of a hunk in a view."""
    return sha1(f"{hunk.commit}|{hunk.path}|{hunk.number}|{part}|{view}".encode()).hexdigest()[:16]


def _sample(hunk: HunkText, view: str, part: int, prompt: Prompt, completion: str, added: tuple[int, ...]) -> Sample:
    return Sample(sample_id(hunk, view, part), view, prompt.text, prompt.context, completion, added)

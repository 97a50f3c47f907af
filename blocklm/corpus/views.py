"""Turns one change into samples of several views; each view is a pure function from a change to samples.

The templates of a prompt family word each view for a model. Loss is taken on the completion only. `added` marks the
characters of it that the commit added: the exam scores those alone. A change with too little text gives no sample.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from itertools import groupby

from blocklm.corpus.new_text import LETTER, NewText, text_of
from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.windows import Line, windows

SPAN_CHARS = 700  # longest text to fill in; longer ones are left to the edit view
PREFIX_CHARS, SUFFIX_CHARS = 700, 300
MIN_SPAN_CHARS = 8  # a closing brace says nothing
NEXT_LINES = 3
MESSAGE_DIFF_CHARS = 1400
COMMENT_CHARS = 400
PULL_REQUEST = re.compile(r"\s*\(#\d+\)\s*$")


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and its completion.

    Attributes:
        id: name derived from commit, path, hunk and view.
        view: name of the view.
        prompt: text on which no loss is taken.
        context: start and end, in characters, of the part of the prompt that may be cut.
        completion: text to learn or to predict.
        added: start, end, start, end … in characters, of the added text in the completion.
    """

    id: str
    view: str
    prompt: str
    context: tuple[int, int]
    completion: str
    added: tuple[int, ...]


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
    def after(self) -> NewText:
        """The part of the new file that the hunk shows."""
        return NewText([line for line in self.marked if line[0] != "-"])

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
            completion, added = _text_after(window)
            before = "".join(f"{text}\n" for mark, text in window if mark != "+")
            prompt = family.prompt("edit", repo=hunk.repo, path=hunk.path, subject=hunk.subject, context=before)
            yield _sample(hunk, "edit", part, prompt, completion, added)


def fim(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per run of added lines: the text around it, in the new file, gives the run."""
    for part, (start, end) in enumerate(hunk.after.added_runs):
        span = hunk.after.between(start, end)
        prefix, suffix = hunk.after.before(start, PREFIX_CHARS), hunk.after.behind(end, SUFFIX_CHARS)
        if len(span.strip()) >= MIN_SPAN_CHARS and len(span) <= SPAN_CHARS and prefix.strip():
            prompt = family.prompt("fim", repo=hunk.repo, path=hunk.path, context=prefix, suffix=suffix)
            yield _sample(hunk, "fim", part, prompt, span, (0, len(span)))


def next_line(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per run of added lines: the new file up to a line of the run gives one to three lines.

    The sample's id decides which line and how many, so the choice never changes.
    """
    lines = hunk.after.lines
    for part, (start, end) in enumerate(hunk.after.added_runs):
        candidates = [line for line in range(start, end) if len(lines[line][1].strip()) >= MIN_SPAN_CHARS and line]
        if candidates:
            number = int(_sample_id(hunk, "next_line", part), 16)
            line = candidates[number % len(candidates)]
            prefix = hunk.after.before(line, PREFIX_CHARS)
            completion = hunk.after.between(line, min(end, line + 1 + number // 1000 % NEXT_LINES))
            prompt = family.prompt("next_line", repo=hunk.repo, path=hunk.path, context=prefix)
            yield _sample(hunk, "next_line", part, prompt, completion, (0, len(completion)))


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


OF_HUNK: dict[str, Callable[[Family, HunkText], Iterator[Sample]]] = {
    "edit": edit,
    "fim": fim,
    "next_line": next_line,
    "diff": diff,
}


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


def snapshot(family: Family, file: HunkText) -> Iterator[Sample]:
    """Yield one sample per piece of a file at the end of training: the text before gives the piece."""
    lines = [(mark, text) for mark, text in file.marked if mark == "+"]
    prefix = ""
    for part, window in enumerate(windows(lines)):
        completion = text_of([line for line in window if line[0] == "+"])  # carried lines count as context
        if LETTER.search(completion):
            prompt = family.prompt("snapshot", repo=file.repo, path=file.path, context=prefix)
            yield _sample(file, "snapshot", part, prompt, completion, (0, len(completion)))
        prefix = completion[-PREFIX_CHARS:]


def _text_after(window: list[Line]) -> tuple[str, tuple[int, ...]]:
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


def _sample_id(hunk: HunkText, view: str, part: int) -> str:
    return sha1(f"{hunk.commit}|{hunk.path}|{hunk.number}|{part}|{view}".encode()).hexdigest()[:16]


def _sample(hunk: HunkText, view: str, part: int, prompt: Prompt, completion: str, added: tuple[int, ...]) -> Sample:
    return Sample(_sample_id(hunk, view, part), view, prompt.text, prompt.context, completion, added)

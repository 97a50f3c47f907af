"""One change becomes many lessons: each view is a pure function from a change to samples with prompt and completion.

`prompts` of a family say how a view reads to a model. Loss is taken on the completion only, and `added` marks which of its
characters the commit brought, so that the exam scores those alone. What a view has too little text for gives no sample.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1
from itertools import groupby

from blocklm.corpus.prompt_templates import Family, Prompt
from blocklm.corpus.windows import Line, windows

SPAN_CHARS = 700  # of a text to fill in; longer ones are for the edit view
PREFIX_CHARS, SUFFIX_CHARS = 700, 300
MIN_SPAN_CHARS = 8  # a closing brace says nothing
NEXT_LINES = 3
MESSAGE_DIFF_CHARS = 1400
COMMENT_CHARS = 400
PULL_REQUEST = re.compile(r"\s*\(#\d+\)\s*$")
LETTER = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and its completion.

    `context` holds start and end of what may be cut of the prompt, `added` start, end, start, end … of the added text in the
    completion.
    """

    id: str
    view: str
    prompt: str
    context: tuple[int, int]
    completion: str
    added: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HunkText:
    """One hunk and where it stands; `lines` carry the marks of a unified diff, `number` is its place in the diff."""

    repo: str
    commit: str
    path: str
    message: str
    number: int
    lines: Sequence[str]

    @property
    def subject(self) -> str:
        """The first line of the message, without the number of a pull request, which no model can know."""
        return PULL_REQUEST.sub("", self.message.partition("\n")[0]).strip()

    @property
    def marked(self) -> list[Line]:
        """Mark and text of each line; remarks on a missing newline are none."""
        return [(line[0], line[1:]) for line in self.lines if line and line[0] in " +-"]

    @property
    def diff(self) -> str:
        """The hunk as text, without its header."""
        return "".join(f"{line}\n" for line in self.lines)


def edit(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per window: the lines before and what is intended become the lines after.

    Applying the windows in order turns the hunk's lines before into those after; none overlaps another's changes.
    """
    for part, window in enumerate(windows(hunk.marked)):
        if any(mark == "+" and text.strip() for mark, text in window):
            completion, added = _after(window)
            before = "".join(f"{text}\n" for mark, text in window if mark != "+")
            prompt = family.prompt("edit", repo=hunk.repo, path=hunk.path, subject=hunk.subject, context=before)
            yield _sample(hunk, "edit", part, prompt, completion, added)


def fim(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per run of added lines: what is around it, in the file after the change, gives what is missing."""
    after = [(mark, text) for mark, text in hunk.marked if mark != "-"]
    for part, (start, end) in enumerate(_runs(after)):
        span = _text(after[start:end])
        prefix, suffix = _text(after[:start])[-PREFIX_CHARS:], _text(after[end:])[:SUFFIX_CHARS]
        if len(span.strip()) >= MIN_SPAN_CHARS and len(span) <= SPAN_CHARS and prefix.strip():
            prompt = family.prompt("fim", repo=hunk.repo, path=hunk.path, context=prefix, suffix=suffix)
            yield _sample(hunk, "fim", part, prompt, span, (0, len(span)))


def next_line(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per run of added lines: the file up to a line of the run gives the line, or up to three.

    Which line, and how many, follows from the sample's name, so that it never changes.
    """
    after = [(mark, text) for mark, text in hunk.marked if mark != "-"]
    for part, (start, end) in enumerate(_runs(after)):
        telling = [at for at in range(start, end) if len(after[at][1].strip()) >= MIN_SPAN_CHARS and at]
        if telling:
            chance = int(_name(hunk, "next_line", part), 16)
            at = telling[chance % len(telling)]
            prefix = _text(after[:at])[-PREFIX_CHARS:]
            completion = _text(after[at : min(end, at + 1 + chance // 1000 % NEXT_LINES)])
            prompt = family.prompt("next_line", repo=hunk.repo, path=hunk.path, context=prefix)
            yield _sample(hunk, "next_line", part, prompt, completion, (0, len(completion)))


def diff(family: Family, hunk: HunkText) -> Iterator[Sample]:
    """Yield one sample per window: what is intended gives the lines as a unified diff marks them."""
    for part, window in enumerate(windows(hunk.marked)):
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
    """Yield the sample of a commit: what it changes, smallest hunks first as far as they fit, gives its subject."""
    shown, room = [], MESSAGE_DIFF_CHARS
    for hunk in sorted(hunks, key=lambda hunk: len(hunk.diff)):
        room -= len(hunk.diff) + len(hunk.path)
        if room < 0:
            break
        shown.append(hunk)
    if shown and shown[0].subject:
        shown.sort(key=lambda hunk: (hunk.path, hunk.number))
        files = [(path, "".join(hunk.diff for hunk in some)) for path, some in groupby(shown, lambda hunk: hunk.path)]
        text = "".join(f"--- {path}\n{diff}" for path, diff in files)
        completion = f"{shown[0].subject}\n"
        prompt = family.prompt("message", repo=shown[0].repo, context=text)
        yield _sample(hunks[0], "message", 0, prompt, completion, (0, len(completion)))


def review(family: Family, hunk: HunkText, fix: HunkText) -> Iterator[Sample]:
    """Yield the sample of a hunk that a later one repaired: the hunk gives the repair's subject and its lines.

    Of a long hunk the beginning is shown: which part was repaired is not asked.
    """
    shown = "".join(f"{mark}{text}\n" for mark, text in next(windows(hunk.marked)))
    changed = (f"{mark}{text}\n" for mark, text in fix.marked if mark != " ")
    repair = "".join(_within(COMMENT_CHARS, changed))
    completion = f"{fix.subject}\n{repair}"
    prompt = family.prompt("review", repo=hunk.repo, path=hunk.path, context=shown)
    yield _sample(hunk, "review", 0, prompt, completion, (0, len(completion)))


def snapshot(family: Family, file: HunkText) -> Iterator[Sample]:
    """Yield one sample per piece of a file as it stood at the cut: what is before gives the piece."""
    lines = [(mark, text) for mark, text in file.marked if mark == "+"]
    prefix = ""
    for part, window in enumerate(windows(lines)):
        completion = _text([line for line in window if line[0] == "+"])  # what is carried has become context
        if LETTER.search(completion):
            prompt = family.prompt("snapshot", repo=file.repo, path=file.path, context=prefix)
            yield _sample(file, "snapshot", part, prompt, completion, (0, len(completion)))
        prefix = completion[-PREFIX_CHARS:]


def _after(window: list[Line]) -> tuple[str, tuple[int, ...]]:
    """The text after the change and the character spans of its added lines, adjoining ones joined."""
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


def _runs(after: list[Line]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of added lines that says something."""
    start = 0
    for mark, some in groupby(after, key=lambda line: line[0]):
        end = start + len(list(some))
        if mark == "+" and any(LETTER.search(text) for _, text in after[start:end]):
            yield start, end
        start = end


def _within(chars: int, lines: Iterator[str]) -> Iterator[str]:
    """The first of the lines, as many as fit."""
    for line in lines:
        chars -= len(line)
        if chars < 0:
            return
        yield line


def _text(lines: Sequence[Line]) -> str:
    return "".join(f"{text}\n" for _, text in lines)


def _name(hunk: HunkText, view: str, part: int) -> str:
    return sha1(f"{hunk.commit}|{hunk.path}|{hunk.number}|{part}|{view}".encode()).hexdigest()[:16]


def _sample(hunk: HunkText, view: str, part: int, prompt: Prompt, completion: str, added: tuple[int, ...]) -> Sample:
    return Sample(_name(hunk, view, part), view, prompt.text, prompt.context, completion, added)

"""Finds the gap in a prompt that a client has worded itself, with the tokens of any family.

Editors choose the tokens by the name of the model, which need not be those that the run was taught.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blocklm.corpus.places.place import FilePiece
from blocklm.serving.question import Gap


@dataclass(frozen=True, slots=True)
class Markers:
    """How a family marks a gap and files; each is a pattern.

    Attributes:
        prefix: what stands before the text before the gap.
        suffix: what stands before the text after the gap.
        middle: what ends the prompt; None if nothing does.
        file: what stands before a file, whose path is the rest of the line; None if there is no such form.
    """

    prefix: str
    suffix: str
    middle: str | None
    file: str | None = None


FAMILIES = (
    Markers(r"<\|fim_prefix\|>", r"<\|fim_suffix\|>", r"<\|fim_middle\|>", r"<\|file_sep\|>"),
    Markers("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>|<filename>"),
    Markers("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    Markers(r"<\|code_prefix\|>", r"<\|code_suffix\|>", r"<\|code_middle\|>"),
    Markers("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # noqa: RUF001 (its own full-width bars)
    Markers("▁<PRE>", "▁<SUF>", "▁<MID>"),
    Markers("<PRE> ?", " ?<SUF>", " ?<MID>"),
    Markers(r"\[PREFIX\]", r"\[SUFFIX\]", None, r"(?m:^)\+\+\+\+\+ "),
)
# minuet puts language and indentation into comments at the beginning; our samples have no such lines.
HINTS = re.compile(r"\A(?:[^\w\n]*(?:language|indentation): [^\n]*\n){1,2}")

PATH = re.compile(r"[\w@+-]*[./][\w./@+-]*")


def find_gap(prompt: str) -> Gap | None:
    """Find the gap in a prompt; None if the prompt marks none.

    The text after the gap may stand before or after the text before it. What the client tells of other files, and the
    path of the file with the gap, is read too. Takes time in proportion to the length of the prompt.
    """
    for markers in FAMILIES:
        prefix, suffix = re.search(markers.prefix, prompt), re.search(markers.suffix, prompt)
        if prefix is None or suffix is None:
            continue
        end = _end(prompt, markers)
        if prefix.end() <= suffix.start() and end is not None and suffix.end() <= end:
            head, before, after = prefix.start(), prompt[prefix.end() : suffix.start()], prompt[suffix.end() : end]
        elif suffix.end() <= prefix.start():
            head, after = suffix.start(), prompt[suffix.end() : prefix.start()]
            before = prompt[prefix.end() : max(prefix.end(), len(prompt) if end is None else end)]
        else:
            continue
        return _with_files(prompt[:head], before, after, markers.file)
    return None


def without_hints(text: str) -> str:
    """Return a text without the lines about language and indentation that minuet begins it with."""
    return HINTS.sub("", text)


def _end(prompt: str, markers: Markers) -> int | None:
    """Return where the text of a prompt ends: before the marker of the middle; None if it does not end with one."""
    if markers.middle is None:
        return len(prompt)
    *_, last = [None, *re.finditer(markers.middle, prompt)]
    return None if last is None or prompt[last.end() :].strip() else last.start()


def _with_files(head: str, before: str, after: str, file: str | None) -> Gap:
    """Build the gap, with the files that stand before it in the prompt."""
    if file is None:
        return Gap(before, after)
    _, *sections = re.split(file, head)
    if not sections:
        beginning, *sections = re.split(file, before)  # where files stand within the text before the gap
        if beginning or not sections:
            return Gap(before, after)
        path, _, before = sections[-1].partition("\n")
    elif sections[-1].strip():
        path = sections[-1].partition("\n")[0]
    else:
        path, _, rest = before.partition("\n")  # as the first line of the text before the gap
        path, before = (path, rest) if PATH.fullmatch(path) else ("", before)
    return Gap(before, after, path.strip() or None, pieces_of(sections[:-1]))


def pieces_of(sections: Sequence[str]) -> tuple[FilePiece, ...]:
    """Read other files of a prompt, each of which begins with a line with its path."""
    split = [section.partition("\n") for section in sections]
    return tuple(FilePiece(path.strip(), f"{text.rstrip()}\n") for path, _, text in split if text.strip())

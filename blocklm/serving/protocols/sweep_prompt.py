r"""Reads the form in which Zed and cursortab ask Sweep's models for a next edit.

`<|file_sep|>{path}\n{text}` for related files, `<|file_sep|>{path}.diff\noriginal:\n…\nupdated:\n…` for recent edits,
then the window as `original/{path}` and `current/{path}`; the prompt ends with `updated/{path}`.
"""

from blocklm.corpus.places.place import RecentEdit
from blocklm.serving.protocols.fim_prompt import pieces_of
from blocklm.serving.question import NextEdit

FILE, CURSOR = "<|file_sep|>", "<|cursor|>"
ORIGINAL, UPDATED = "original:\n", "\nupdated:\n"


def find_edit(prompt: str) -> NextEdit | None:
    """Find what a prompt in this form asks; None if it has another form.

    Where the window has changed since `original/{path}`, that is the nearest of the recent edits.
    """
    _, *sections = prompt.split(FILE)
    if len(sections) < 3 or not sections[-1].startswith("updated/") or sections[-1].partition("\n")[2].strip():
        return None
    path = sections[-1].partition("\n")[0].removeprefix("updated/")
    names = [section.partition("\n")[0] for section in sections[-3:-1]]
    if names != [f"original/{path}", f"current/{path}"]:
        return None
    original, window = (_ended(section.partition("\n")[2].replace(CURSOR, "")) for section in sections[-3:-1])
    edits = [edit for section in sections[:-3] if (edit := _edit(section)) is not None]
    if original != window:
        edits.append(RecentEdit(path, original, window))
    files = [section for section in sections[:-3] if _edit(section) is None]
    return NextEdit(path, window, tuple(edits), pieces_of(files))


def _edit(section: str) -> RecentEdit | None:
    name, _, text = section.partition("\n")
    if not name.endswith(".diff") or not text.startswith(ORIGINAL) or UPDATED not in text:
        return None
    original, _, updated = text.partition(UPDATED)
    return RecentEdit(name.removesuffix(".diff"), _ended(original.partition("\n")[2]), _ended(updated))


def _ended(text: str) -> str:
    """Return a text whose last line ends with a line feed; an empty one stays empty."""
    return text if text.endswith("\n") or not text else f"{text}\n"

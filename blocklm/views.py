"""One change becomes training samples, written in the model family's own tokens.

The one view so far is `edit`: path, subject and the lines before become the lines after. Loss is taken on the
completion only, and `added` marks which of its characters the commit brought, so that the exam scores those alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha1

# A window is cut so that prompt and completion fit the shortest recipe (512 tokens) in most cases; plain text has
# three to four characters a token.
WINDOW_LINES = 40
WINDOW_CHARS = 1400
CARRIED_LINES = 3  # context that a later window of the same hunk repeats from the one before

Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """A prompt and its completion; `added` holds start, end, start, end … of the added text in the completion."""

    id: str
    view: str
    prompt: str
    completion: str
    added: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """How one kind of base model was taught to read files; `markers` are the special tokens that tell it apart."""

    name: str
    markers: frozenset[str]
    edit: str


# StarCoder2 knows repositories as `<repo_name>` and files split by `<file_sep>` (Lozhkov et al. 2024, table 5); the
# pull-request marker tells it from SmolLM2, whose vocabulary has the other two without the training. Everything else
# gets plain original/updated blocks: they beat unified diffs on small models (Sweep, next-edit).
FAMILIES: tuple[Family, ...] = (
    Family(
        "starcoder2",
        frozenset({"<repo_name>", "<file_sep>", "<pr_diff_hunk>"}),
        "<repo_name>{repo}<file_sep>{path}\n{before}<file_sep>commit_message\n{subject}<file_sep>{path}\n",
    ),
    Family("plain", frozenset(), "### {repo}/{path}\n### {subject}\noriginal:\n{before}\nupdated:\n"),
)


def family_of(special_tokens: frozenset[str]) -> Family:
    """The first family whose markers are all in the vocabulary; never by the model's name."""
    return next(family for family in FAMILIES if family.markers <= special_tokens)


def render_edit(
    family: Family, repo: str, commit: str, path: str, message: str, number: int, lines: Sequence[str]
) -> Iterator[Sample]:
    """Yield one sample per window of a hunk that adds text; `lines` carry the marks of a unified diff.

    Applying the windows in order turns the hunk's lines before into those after; none overlaps another's changes.
    """
    subject = message.partition("\n")[0].strip()
    hunk = [(line[0], line[1:]) for line in lines if line and line[0] in " +-"]
    for part, window in enumerate(windows(hunk)):
        completion, added = _after(window)
        if not any(tag == "+" and text.strip() for tag, text in window):
            continue
        before = "".join(f"{text}\n" for tag, text in window if tag != "+")
        yield Sample(
            id=sha1(f"{commit}|{path}|{number}|{part}|edit".encode()).hexdigest()[:16],
            view="edit",
            prompt=family.edit.format(repo=repo, path=path, subject=subject, before=before),
            completion=completion,
            added=added,
        )


def windows(hunk: list[Line]) -> Iterator[list[Line]]:
    """Cut a hunk into windows of bounded size; a later one opens with the last lines of the one before as context."""
    start, carried = 0, list[Line]()
    while start < len(hunk):
        end = _cut(hunk, start)
        window = carried + hunk[start:end]
        yield window
        carried = [(" ", text) for tag, text in window if tag != "-"][-CARRIED_LINES:]
        start = end


def _cut(hunk: list[Line], start: int) -> int:
    """Where the window that begins at `start` ends: at the last blank line of the second half of its room, if any."""
    chars, end = 0, start
    while end < len(hunk) and end - start < WINDOW_LINES and chars < WINDOW_CHARS:
        tag, text = hunk[end]
        chars += (len(text) + 1) * (2 if tag == " " else 1)  # context stands in both prompt and completion
        end += 1
    if end == len(hunk):
        return end
    blank = [at for at in range(start + (end - start) // 2, end) if hunk[at][0] != "-" and not hunk[at][1].strip()]
    return blank[-1] + 1 if blank else end


def _after(window: list[Line]) -> tuple[str, tuple[int, ...]]:
    """The text after the change and the character spans of its added lines, adjoining ones joined."""
    spans: list[int] = []
    position, parts = 0, []
    for tag, text in window:
        if tag == "-":
            continue
        parts.append(f"{text}\n")
        end = position + len(text) + 1
        if tag == "+":
            if spans and spans[-1] == position:
                spans[-1] = end
            else:
                spans += [position, end]
        position = end
    return "".join(parts), tuple(spans)

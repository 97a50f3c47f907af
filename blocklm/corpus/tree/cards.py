"""View `card`: short texts about one definition, each of which joins two facts that files seldom show together.

Signature and description, definition and path, name and import statement, definition and use. Each text has the form of
the view `file`, with the path of a file that it quotes; the rest is comments. The sample's id decides which of the two
facts comes first.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blocklm.corpus.prompt_templates import Family
from blocklm.corpus.tree.definitions import Definition
from blocklm.corpus.tree.uses import Use
from blocklm.corpus.views import HunkText, Sample, sample_id

CARD = "card"
DESCRIBED, LOCATED, IMPORTED, USED = range(4)
MAX_USED = 2  # cards that each show a use of the same definition


@dataclass(frozen=True, slots=True)
class Card:
    """A sample about a definition, and the path and row of each line that it quotes."""

    sample: Sample
    quoted: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class _Text:
    """The path at the head of a card, and the text below it."""

    path: str
    text: str


def cards(
    family: Family, file: HunkText, definition: Definition, uses: Sequence[Use], language: str | None
) -> Iterator[Card]:
    """Yield up to five cards of a definition.

    Args:
        family: prompt family of the view.
        file: path and commit of the file that defines it, and the number of the definition in it.
        definition: the definition.
        uses: its uses in other files.
        language: language of the file, whose comments the card has.
    """
    for part, texts, use in _pairs(file, definition, uses, language):
        name = sample_id(file, CARD, part)
        shown = random.Random(name).choice(texts)
        completion = family.prompt("file", repo=file.repo, path=shown.path, context=shown.text).text
        added = (len(completion) - len(shown.text), len(completion))
        quoted = [(file.path, row) for row in definition.rows]
        quoted += [(use.path, row) for row in use.rows] if use else []
        yield Card(Sample(name, CARD, "", (0, 0), completion, added), tuple(quoted))


def _pairs(
    file: HunkText, definition: Definition, uses: Sequence[Use], language: str | None
) -> Iterator[tuple[int, tuple[_Text, _Text], Use | None]]:
    """Yield the number of each card, its text in both orders, and the use that it quotes."""

    def comment(text: str) -> str:
        mark = "#" if language == "Python" else "//"
        return "".join(f"{mark} {line}".rstrip() + "\n" for line in text.split("\n"))

    path, code = file.path, f"{definition.signature}\n"
    origin = comment(f"{definition.name} is defined in {path}:\n{definition.signature}")
    if definition.description:
        description = comment(definition.description)
        yield DESCRIBED, (_Text(path, description + code), _Text(path, code + description)), None
    if uses:
        located = _Text(uses[0].path, comment(f"{definition.signature}\nis defined in {path}"))
        yield LOCATED, (_Text(path, code), located), None
    elif not definition.description:
        yield LOCATED, (_Text(path, code), _Text(path, code)), None
    importing = next((use for use in uses if use.statement), None)
    if importing is not None:
        statement = f"{importing.statement}\n"
        named = comment(f"{definition.name} is defined in {path}:")
        texts = _Text(importing.path, named + statement), _Text(importing.path, statement + origin)
        yield IMPORTED, texts, importing
    chance = random.Random(sample_id(file, CARD, USED))
    for number, use in enumerate(chance.sample(uses, min(MAX_USED, len(uses)))):
        used = _Text(path, code + comment(f"used in {use.path}:\n{use.lines}"))
        yield USED + number, (used, _Text(use.path, f"{use.lines}\n{origin}")), use

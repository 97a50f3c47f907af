"""Renders the files at the end of training: piece by piece, and as cards about what they define."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from blocklm.corpus import views
from blocklm.corpus.decontamination import HeldOutLines, gives_away
from blocklm.corpus.prompt_templates import Family
from blocklm.corpus.tree.cards import CARD, cards
from blocklm.corpus.tree.definitions import FileDefinitions, content_of, definitions_of
from blocklm.corpus.tree.uses import UseFinder
from blocklm.corpus.views import HunkText, Sample

FILE = "file"
TEST_SHARE = 0.3  # factor of the weight of a definition that stands among tests
NEAR_ROWS = 3
LEAKS = "asked_later"


@dataclass(frozen=True, slots=True)
class TreeSample:
    """A sample of a file.

    Attributes:
        file: repository, commit and path of the file; for a card, also the number of the definition.
        language: language of the file.
        weight: weight that mining gives the file, less for a definition that stands among tests.
        sample: the sample.
    """

    file: HunkText
    language: str | None
    weight: float
    sample: Sample


@dataclass(frozen=True)
class TreeRenderer:
    """Renders the files at the end of training, without what reveals a held-out hunk.

    Attributes:
        families: prompt family of each view.
        held_out: lines of validation and test.
        has_special_token: tells whether a text contains a special token, which would break a prompt.
        left_out: number of texts that were left out, by reason; this adds to it.
    """

    families: Mapping[str, Family]
    held_out: HeldOutLines
    has_special_token: Callable[[HunkText], bool]
    left_out: Counter[str]

    def samples(self, files: Dataset) -> Iterator[TreeSample]:
        """Yield the samples of each file, each a change that adds the file, and then the cards of each repository."""
        readable = list[int]()
        for row, file in enumerate(files):
            if file["drop_reason"] is None and not self.has_special_token(text := _text_of(file)):
                readable.append(row)
                if FILE in self.families:
                    yield from self._pieces(file, text, self.families[FILE])
        if CARD in self.families:
            chosen = files.select(readable)
            names = chosen["repo"][:]
            for name in dict.fromkeys(names):
                own = chosen.select([row for row, repo in enumerate(names) if repo == name])
                yield from self._cards(own, self.families[CARD])

    def _pieces(self, file: dict[str, Any], text: HunkText, family: Family) -> Iterator[TreeSample]:
        known = self.held_out.known_lines(content_of(text.lines))
        for sample in views.file(family, text):
            if known and gives_away(sample.completion, known):
                self.left_out[LEAKS] += 1
            else:
                yield TreeSample(text, file["language"], file["weight"], sample)

    def _cards(self, files: Dataset, family: Family) -> Iterator[TreeSample]:
        """Yield the cards of one repository, without those that quote a line in or near a held-out hunk."""
        found: list[FileDefinitions] = []
        revealing: set[tuple[str, int]] = set()
        for file in files:
            content = content_of(_text_of(file).lines)
            found.append(definitions_of(content, file["path"], file["language"]))
            revealing |= {(file["path"], row) for row in self._revealing_rows(content)}
        uses = UseFinder(zip(files["path"][:], files["language"][:], found, strict=True))
        for file, own in zip(files, found, strict=True):
            uses.add(content_of(_text_of(file).lines), file["path"], file["language"], own.imports)
        for file, own in zip(files, found, strict=True):
            for number, definition in enumerate(own.definitions):
                text = replace(_text_of(file), number=number)
                weight = file["weight"] * (TEST_SHARE if definition.is_test else 1)
                for card in cards(family, text, definition, uses.of(definition, text.path), file["language"]):
                    if revealing.isdisjoint(card.quoted):
                        yield TreeSample(text, file["language"], weight, card.sample)
                    else:
                        self.left_out[LEAKS] += 1

    def _revealing_rows(self, content: str) -> Iterator[int]:
        """Yield the rows of a file that are lines of held-out hunks, and the rows near them, which may be, too.

        Short lines are not compared, because they occur everywhere.
        """
        known = self.held_out.known_lines(content)
        for row, line in enumerate(content.split("\n")) if known else ():
            if line.strip() in known:
                yield from range(row - NEAR_ROWS, row + NEAR_ROWS + 1)


def _text_of(file: dict[str, Any]) -> HunkText:
    return HunkText(file["repo"], file["commit"], file["path"], "", 0, file["diff"].split("\n")[1:])

"""Cards join two facts about a definition, in the exact words of the golden texts, in either order."""

from blocklm.corpus.prompt_templates import FAMILY
from blocklm.corpus.tree.cards import cards
from blocklm.corpus.tree.definitions import definitions_of
from blocklm.corpus.tree.uses import UseFinder
from blocklm.corpus.views import HunkText

ADDER = '''import os


class Adder:
    """Adds numbers.

    Slowly.
    """

    def add_slowly(self, other):
        # Now.
        return self.one + other


def test_add_slowly():
    assert Adder().add_slowly(1)


# Halves a number.
@cached
def half_of(number):
    def inner(x):
        return x
    return inner(number / 2)
'''
SHOP = """from adder import Adder, half_of

TAX = 3


def price(items):
    total = Adder()
    for item in items:
        total.add_slowly(item)
    return half_of(total)
"""
FILES = {"src/adder.py": ADDER, "src/shop.py": SHOP}
# Every card of these files, in the family `plain`.
GOLDEN = {
    "### demo/src/adder.py\nclass Adder:\n# Adds numbers.\n",
    "### demo/src/adder.py\n# Adds numbers.\nclass Adder:\n",
    "### demo/src/adder.py\nclass Adder:\n",
    "### demo/src/shop.py\n# class Adder:\n# is defined in src/adder.py\n",
    "### demo/src/shop.py\n# Adder is defined in src/adder.py:\nfrom adder import Adder, half_of\n",
    "### demo/src/shop.py\nfrom adder import Adder, half_of\n# Adder is defined in src/adder.py:\n# class Adder:\n",
    "### demo/src/adder.py\nclass Adder:\n# used in src/shop.py:\n# def price(items):\n#     total = Adder()\n#     for item in items:\n",
    "### demo/src/shop.py\ndef price(items):\n    total = Adder()\n    for item in items:\n# Adder is defined in src/adder.py:\n# class Adder:\n",
    "### demo/src/adder.py\nclass Adder:\n    def add_slowly(self, other):\n",
    "### demo/src/shop.py\n# class Adder:\n#     def add_slowly(self, other):\n# is defined in src/adder.py\n",
    "### demo/src/adder.py\nclass Adder:\n    def add_slowly(self, other):\n# used in src/shop.py:\n# for item in items:\n#     total.add_slowly(item)\n# return half_of(total)\n",
    "### demo/src/shop.py\nfor item in items:\n    total.add_slowly(item)\nreturn half_of(total)\n# add_slowly is defined in src/adder.py:\n# class Adder:\n#     def add_slowly(self, other):\n",
    "### demo/src/adder.py\n# Halves a number.\ndef half_of(number):\n",
    "### demo/src/adder.py\ndef half_of(number):\n# Halves a number.\n",
    "### demo/src/adder.py\ndef half_of(number):\n",
    "### demo/src/shop.py\n# def half_of(number):\n# is defined in src/adder.py\n",
    "### demo/src/shop.py\n# half_of is defined in src/adder.py:\nfrom adder import Adder, half_of\n",
    "### demo/src/shop.py\nfrom adder import Adder, half_of\n# half_of is defined in src/adder.py:\n# def half_of(number):\n",
    "### demo/src/adder.py\ndef half_of(number):\n# used in src/shop.py:\n#     total.add_slowly(item)\n# return half_of(total)\n",
    "### demo/src/shop.py\n    total.add_slowly(item)\nreturn half_of(total)\n# half_of is defined in src/adder.py:\n# def half_of(number):\n",
    "### demo/src/shop.py\ndef price(items):\n",
}


def cards_of(files: dict[str, str], language: str, family: str = "plain", commit: str = "c") -> list[tuple[str, str]]:
    """Id and text of each card of some files."""
    found = [definitions_of(text, path, language) for path, text in files.items()]
    uses = UseFinder(zip(files, [language] * len(files), found, strict=True))
    for (path, text), own in zip(files.items(), found, strict=True):
        uses.add(text, path, language, own.imports)
    return [
        (card.sample.id, card.sample.completion)
        for path, own in zip(files, found, strict=True)
        for number, definition in enumerate(own.definitions)
        for card in cards(
            FAMILY[family],
            HunkText("demo", commit, path, "", number, ()),
            definition,
            uses.of(definition, path),
            language,
        )
    ]


def test_the_cards_of_two_files_match_the_golden_texts() -> None:
    """A changed text makes the adapters trained before it worse: change it on purpose or not at all."""
    made = [{text for _, text in cards_of(FILES, "Python", commit=str(at))} for at in range(20)]
    assert set.union(*made) == GOLDEN
    assert all(len(texts) == 11 for texts in made), "the order of the two facts is chosen, not the facts"


def test_the_id_of_a_card_chooses_its_order() -> None:
    first = cards_of(FILES, "Python")
    assert first == cards_of(FILES, "Python")
    assert len({name for name, _ in first}) == len(first)
    assert first != cards_of(FILES, "Python", commit="d")


def test_a_card_has_the_form_of_a_file() -> None:
    plain, starcoder2 = (cards_of(FILES, "Python", family) for family in ("plain", "starcoder2"))
    for (_, text), (_, other) in zip(plain, starcoder2, strict=True):
        path, _, content = text.removeprefix("### demo/").partition("\n")
        assert other == FAMILY["starcoder2"].prompt("file", repo="demo", path=path, context=content).text

"""Definitions have their signature, their owner and the first paragraph of their description, in every language."""

import pytest

from blocklm.corpus.syntax import GRAMMARS
from blocklm.corpus.tree.definitions import definitions_of
from blocklm.corpus.tree.uses import UseFinder

# Path, text; name, signature and description of each definition.
CASES: dict[str, tuple[str, str, list[tuple[str, str, str]]]] = {
    "Python": (
        "a.py",
        'class Adder:\n    """Adds.\n\n    Slowly.\n    """\n\n    @cached\n    def add(\n        self,\n    ):\n        pass\n',
        [("Adder", "class Adder:", "Adds."), ("add", "class Adder:\n    def add(\n        self,\n    ):", "")],
    ),
    "Rust": (
        "a.rs",
        "/// Adds.\n///\n/// Slowly.\n#[derive(Debug)]\npub struct Adder {\n    one: u8,\n}\n\nimpl Adder {\n    // Now.\n    pub fn add(&self) -> u8 {\n        1\n    }\n}\n",
        [("Adder", "pub struct Adder", "Adds."), ("add", "impl Adder {\n    pub fn add(&self) -> u8", "Now.")],
    ),
    "Go": (
        "a.go",
        "// Adder adds.\ntype Adder struct {\n\tone int\n}\n\nfunc (a *Adder) Add(other int) int {\n\treturn 1\n}\n",
        [("Adder", "type Adder struct {", "Adder adds."), ("Add", "func (a *Adder) Add(other int) int", "")],
    ),
    "JavaScript": (
        "a.js",
        "/**\n * Adds.\n * @param one\n */\nexport const add = (one) => {\n  return one;\n};\n",
        [("add", "export const add = (one) =>", "Adds.\n@param one")],
    ),
    "C": (
        "a.c",
        "#define LIMIT 2\n\n/* Adds. */\nstatic int *add(struct adder *a,\n                int other)\n{\n\treturn 0;\n}\n",
        [
            ("LIMIT", "#define LIMIT 2", ""),
            ("add", "static int *add(struct adder *a,\n                int other)", "Adds."),
        ],
    ),
    "Java": (
        "a.java",
        "class Adder {\n  // Adds.\n  @Override\n  int add(int other) {\n    return 1;\n  }\n}\n",
        [("Adder", "class Adder", ""), ("add", "class Adder {\n    @Override\n    int add(int other)", "Adds.")],
    ),
}
CASES["TypeScript"] = CASES["TSX"] = CASES["JavaScript"]
CASES["C++"] = CASES["C"]


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_every_language_has_signatures_and_descriptions(language: str) -> None:
    path, text, expected = CASES[language]
    found = definitions_of(text, path, language).definitions
    assert [(each.name, each.signature, each.description) for each in found] == expected
    lines = text.split("\n")
    for each in found:
        quoted = [lines[row].strip() for row in each.rows]
        for line in each.signature.split("\n"):
            assert any(row.startswith(line.strip()) for row in quoted)


def test_a_comment_for_a_program_describes_nothing() -> None:
    for comment in ("// eslint-disable-next-line no-new", "// Copyright 2024 Ada", "// @ts-ignore"):
        (found,) = definitions_of(f"{comment}\nfunction outer() {{\n}}\n", "a.js", "JavaScript").definitions
        assert not found.description


def test_what_no_other_code_can_name_is_no_definition() -> None:
    text = "def outer():\n    def inner():\n        pass\n\n\ndef test_outer():\n    pass\n\n\ndef f():\n    pass\n"
    assert [each.name for each in definitions_of(text, "a.py", "Python").definitions] == ["outer"]
    assert not definitions_of("def add; end\n", "a.rb", "Ruby").definitions


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("tests/helpers.py", "def helper():\n    pass\n", "Python"),
        ("src/lib.rs", "#[cfg(test)]\nmod tests {\n    fn helper() {\n    }\n}\n", "Rust"),
    ],
)
def test_a_definition_among_tests_is_marked(path: str, text: str, language: str) -> None:
    (found,) = definitions_of(text, path, language).definitions
    assert found.is_test


def uses(files: dict[str, str], name: str, path: str) -> list[str]:
    """Paths of the files that use a definition."""
    found = {each: definitions_of(text, each, "Python") for each, text in files.items()}
    finder = UseFinder((each, "Python", own) for each, own in found.items())
    for each, text in files.items():
        finder.add(text, each, "Python", found[each].imports)
    (definition,) = [own for own in found[path].definitions if own.name == name]
    return [use.path for use in finder.of(definition, path)]


def test_a_use_is_a_name_of_this_repository() -> None:
    files = {
        "a.py": "def get(x):\n    pass\n\n\ndef get_the_parcel():\n    pass\n",
        "b.py": "x = {}.get(1)\n",
        "c.py": "from a import get\nx = get(1)\n",
        "d.py": "# get_the_parcel()\nx = 'get_the_parcel()'\n",
        "e.py": "import a\n\nx = a.get(1)\n",
        "f.py": "x = get_the_parcel()\n",
        "h.py": "from a import other\nx = {}.get(1)\n",
    }
    assert uses(files, "get", "a.py") == ["c.py", "e.py"], "b.py has a method of another library"
    assert uses(files, "get_the_parcel", "a.py") == ["f.py"], "neither comment nor string"
    twice = files | {"g.py": "def get():\n    pass\n"}
    assert not uses(twice, "get", "a.py"), "nobody knows which one is meant"

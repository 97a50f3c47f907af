"""Every metric agrees with a computation by hand, and loads as a module of `evaluate` without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blocklm.corpus.syntax import GRAMMARS, syntax
from blocklm.evaluation.text_metrics import (
    chrf,
    edit_similarity,
    exact_match,
    gain,
    identifier_f1,
    parse_valid,
    reciprocal_rank,
)
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("prediction", "matches"),
    [("x = 1\ny = 2\n", 1), ("x = 1  \r\ny = 2\n\n", 1), (" x = 1\ny = 2", 0), ("x = 1\n\ny = 2", 0), ("", 0)],
)
def test_only_white_space_that_nobody_sees_may_differ(prediction: str, matches: float) -> None:
    assert exact_match(prediction, "x = 1\ny = 2\n") == matches


def test_edit_similarity_counts_substitutions_once() -> None:
    """`kitten` becomes `sitting` by two substitutions and an insertion; `fuzz.ratio` and difflib give 0.615."""
    assert edit_similarity("kitten\n", "sitting") == pytest.approx(1 - 3 / 7)
    assert edit_similarity("", "four") == 0
    assert edit_similarity("a \n", "a") == edit_similarity("", "") == 1


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("return value + 1", "return self.value - 1", 5 / 7),
        ("größer", "grosser", 4 / 7),
        ("fn a() -> u8 {", "fn b(x: u8) {", 4 / 7),
        ("saturday", "sunday", 5 / 8),
    ],
)
def test_edit_similarity_equals_that_of_the_package_levenshtein(one: str, other: str, similarity: float) -> None:
    """`1 - Levenshtein.distance(one, other) / max(len(one), len(other))` of Levenshtein 0.27.5."""
    assert edit_similarity(one, other) == pytest.approx(similarity)


def test_a_gain_is_relative_to_copying() -> None:
    assert gain(0.95, 0.9) == pytest.approx(0.5)
    assert gain(0.8, 0.9) == pytest.approx(-1)
    assert gain(0.4, 0.0) == 0.4
    assert gain(1.0, 1.0) is None


def test_chrf_weighs_recall_twice() -> None:
    """Of `abc`, `ab` has 2 of 3 letters and 1 of 2 pairs: precision 1, recall 7/12."""
    precision, recall = 1, (2 / 3 + 1 / 2) / 2
    assert chrf("ab", "abc") == pytest.approx(100 * 5 * precision * recall / (4 * precision + recall))
    assert (chrf("ab", "ab"), chrf("x", "ab")) == (100, 0)


def test_the_first_wanted_answer_of_a_ranking_counts() -> None:
    assert [reciprocal_rank(list("abcd"), wanted) for wanted in ({"a"}, {"d", "c"}, {"x"})] == [1, 1 / 3, 0]


def test_names_are_found_by_the_grammar() -> None:
    """`Reader`, `open` and `path` on one side, `Reader`, `new`, `open` and `file` on the other: two are common."""
    truth = '#[derive(Clone)]\n// see https://x.org/old\nlet r = Reader::open(path, "not a name");'
    assert syntax("let x: Vec<u8> = y.z;", "Rust") is not None
    assert identifier_f1(truth, truth, "Rust") == 1
    assert identifier_f1("Reader::new(open(file))", "Reader::open(path)", "Rust") == pytest.approx(2 * 2 / (4 + 3))
    assert identifier_f1("f(x)", "return True  # f", "Python") is None, "the reference names nothing"
    assert identifier_f1("f", "f", "COBOL") is None


# Language, window before, truth, window after, as good, broken.
WINDOWS = [
    ("Rust", "    if x {\n", "        a(1);\n", "    } else {\n", "        b[0] = 2; c();\n", "        b[0 = 2;\n"),
    ("Rust", "fn f() {\n", "    a();\n", "    b();\n}\n", "    c('(');\n", "    c();\n}\n"),
    ("Python", "        if x:\n", "            y = 1\n", "        z()\n", "            w()\n", "        w()\n"),
    ("Python", "import a\n", "x = (1)\n", "", "y = f'{a}'\n", "print 'x'\n"),
    ("TypeScript", "class A {\n", "  b: number;\n", "  c() {\n", "  d?: string = `${x}`;\n", "  d: = 1;\n"),
    ("TSX", "return (\n", "  <a>{b}</a>\n", ");\n", "  <c/>\n", "  <c>{b}\n"),
    ("JavaScript", "f(() => {\n", "  a();\n", "});\n", "  return `${b}`;\n", "  });\n"),
    ("Go", "\tif err != nil {\n", "\t\treturn err\n", "\t}\n\treturn nil\n", "\t\tpanic(err)\n", "\t\treturn err }\n"),
    ("C", "    switch (x) {\n", "    case 1: a(); break;\n", "    default:\n", "    case 2: b();\n", "    case 2 b();\n"),
    ("C++", "namespace a {\n", "std::vector<int> v{1};\n", "class B {\n", "auto l = [](){};\n", "auto l = [(){};\n"),
    ("Java", "  @Override\n", "  int a() { return 1; }\n", "  int b() {\n", "  int a() { return b(); }\n", "  int a() { return\n"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "prefix", "truth", "suffix", "good", "broken"), WINDOWS)
def test_a_fragment_is_parsed_within_its_window(
    language: str, prefix: str, truth: str, suffix: str, good: str, broken: str
) -> None:
    valid = [parse_valid(text, truth, language, prefix, suffix) for text in (truth, good, broken, " \n")]
    assert valid == [1, 1, 0, 0]


def test_text_without_a_grammar_is_not_counted() -> None:
    assert {language for language, *_ in WINDOWS} == set(GRAMMARS)
    assert parse_valid("x", "x", "COBOL") is parse_valid("x", "x", None) is None


def test_deep_nesting_ends_no_evaluation() -> None:
    assert parse_valid("(" * 5000 + ")" * 5000 + "\n", "x = 1\n", "Python") == 0


LOADS = """
import json, sys, evaluate
asked = json.load(sys.stdin)
print(json.dumps({path: evaluate.load(path, keep_in_memory=True).compute(**given) for path, given in asked.items()}))
"""


def test_evaluate_loads_each_from_its_path_without_a_network(tmp_path: Path) -> None:
    texts = {"predictions": ["x = foo(a)\n", "x = foo(\n"], "references": ["x = foo(a)\n", "x = foo(b)\n"]}
    languages = {"languages": ["Rust", "Python"]}
    expected = {
        "exact_match": (texts, {"exact_match": 0.5, "scores": [1, 0]}),
        "edit_similarity": (
            texts | {"copies": ["x = foo(b)\n", ""]},
            {"edit_similarity": 0.9, "copy_floor": 0.45, "gain": pytest.approx(9 / 11), "scores": [1, 0.8]},
        ),
        "chrf": (texts, {"chrf": pytest.approx((100 + chrf("x = foo(\n", "x = foo(b)\n")) / 2), "scores": [100, pytest.approx(64.65, abs=0.01)]}),
        "identifier_f1": (texts | languages, {"identifier_f1": 0.9, "counted": 2, "scores": [1, 0.8]}),
        "parse_valid": (
            texts | {"languages": ["COBOL", "Python"], "prefixes": ["", ""], "suffixes": ["", ""]},
            {"parse_valid": 0, "counted": 1, "scores": [None, 0]},
        ),
        "mrr": ({"predictions": [["a", "b"], ["c"]], "references": [["b"], ["x"]]}, {"mrr": 0.25, "scores": [0.5, 0]}),
    }  # fmt: skip
    folder = ROOT / "blocklm" / "evaluation" / "metrics"
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(expected)
    asked = {str(folder / f"{name}.py"): given for name, (given, _) in expected.items()}
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADS], input=json.dumps(asked), cwd=tmp_path, env=environment, check=True, text=True,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    found = {Path(path).stem: result for path, result in json.loads(done.stdout).items()}
    assert found == {name: wanted for name, (_, wanted) in expected.items()}

"""The grammar of each language finds functions, tests, imports, symbols and their uses in a fragment."""

import pytest

from blocklm.corpus.syntax import GRAMMARS
from blocklm.corpus.tree.constructs import Function, functions, import_rows, symbols, uses

RUST = """        left_over();
    }

    /// Adds.
    #[inline]
    pub fn add(&self, other: u8) -> u8 {
        self.0 + other
    }
}
mod inner;
use std::{
    fmt,
};

#[cfg(test)]
mod tests {
    // Slow.
    #[tokio::test(start_paused = true)]
    async fn adds() {
        assert_eq!(add(1), LIMIT);
    }
    fn helper() { one_line() }
}
const LIMIT: u8 = 2;
"""
PYTHON = '''    left = over
    @cached
    def add(self, other):
        """Add.

        Twice.
        """
        # Now.
        return self.one + other

from a import (
    b,
)

def test_add():
    assert add(1) == LIMIT

class Adder:
    pass
'''
GO = """import (
	"fmt"
	other "x/y"
)

func (a *Adder) Add(other int) int {
	return a.one + other
}

func TestAdd(t *testing.T) {
	check(t, Add(1), Limit)
}

type Adder struct {
	one int
}
"""
JAVASCRIPT = """import { a } from 'b';
const c = require('d');
export { e } from 'f';

const add = (one, other) => {
  return one + other;
};

test.only('adds', async () => {
  expect(add(1)).toBe(LIMIT);
});

class Adder {
  grow() {
    return add(this.one);
  }
}
"""
C = """#include <stdio.h>
#define LIMIT 2

static int *add(struct adder *a, int other)
{
	return a->one + other;
}

struct adder {
	int one;
};
"""
CPP = """#include "adder.h"

int Adder::add(int other) const {
  return one + other;
}

TEST(AdderTest, Adds) {
  EXPECT_EQ(add(1), LIMIT);
}

class Adder {
  int one;
};
"""
JAVA = """import a.b.C;

class Adder {
  int add(int other) {
    return one + other;
  }

  @Override
  @ParameterizedTest
  void adds() {
    assertEquals(LIMIT, add(1));
  }
}
"""
# Text, functions, import rows, symbols.
CASES: dict[str, tuple[str, list[Function], set[int], set[str]]] = {
    "Rust": (
        RUST,
        [Function(5, 6, 7, 8, False), Function(18, 19, 20, 21, True)],
        {9, 10, 11, 12},
        {"add", "adds", "helper", "LIMIT"},
    ),
    "Python": (
        PYTHON,
        [Function(2, 7, 9, 9, False), Function(14, 15, 16, 16, True)],
        {10, 11, 12},
        {"add", "test_add", "Adder"},
    ),
    "Go": (
        GO,
        [Function(5, 6, 7, 8, False), Function(9, 10, 11, 12, True)],
        {0, 1, 2, 3},
        {"Add", "TestAdd", "Adder"},
    ),
    "JavaScript": (
        JAVASCRIPT,
        [Function(4, 5, 6, 7, False), Function(8, 9, 10, 11, True), Function(13, 14, 15, 16, False)],
        {0, 1, 2},
        {"add", "Adder", "grow"},
    ),
    "C": (C, [Function(3, 5, 6, 7, False)], {0}, {"LIMIT", "add", "adder"}),
    "C++": (CPP, [Function(2, 3, 4, 5, False), Function(6, 7, 8, 9, True)], {0}, {"add", "TEST", "Adder"}),
    "Java": (JAVA, [Function(3, 4, 5, 6, False), Function(7, 10, 11, 12, True)], {0}, {"Adder", "add", "adds"}),
}
CASES["TypeScript"] = CASES["TSX"] = CASES["JavaScript"]


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_every_language_has_functions_tests_imports_and_symbols(language: str) -> None:
    text, of_functions, of_imports, of_symbols = CASES[language]
    assert functions(text, language) == of_functions
    assert import_rows(text, language) == of_imports
    assert symbols(text, language) == of_symbols


@pytest.mark.parametrize(
    ("language", "row", "head"), [("Rust", 19, "        assert_eq!(add(1), "), ("Python", 15, "    assert add(1) == ")]
)
def test_a_use_is_distinguished_from_a_definition(language: str, row: int, head: str) -> None:
    found = uses(CASES[language][0], language, frozenset({"add", "LIMIT"}))
    assert (row, head) in found
    assert found == [(row, head.partition("add")[0]), (row, head)]


def test_columns_are_characters() -> None:
    assert uses('x = "größe", add\n', "Python", frozenset({"add"})) == [(0, 'x = "größe", ')]


def test_incomplete_code_and_code_without_a_grammar_give_no_definitions() -> None:
    assert functions("pub fn cut(a: u8) -> u8 {\n    let b = a;\n", "Rust") == []
    assert functions("fn torn() {\n    let = ;\n    x\n}\n", "Rust") == []
    assert functions("def add(a):\n    return a\n", None) == functions("puts 1\n", "Ruby") == []
    assert not import_rows("require 'set'\n", "Ruby")
    assert not symbols("def add; end\n", "Ruby")

"""Every task of a small history in Rust and Python has its exact prompts, which later commits do not change."""

import json
import random
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.corpus.places.co_changes import CoChanges
from blocklm.corpus.prompt_templates import FAMILY, Prompt
from blocklm.corpus.rendering import AnnotatedHunk
from blocklm.corpus.views import HunkText
from blocklm.evaluation.tasks.body import body_items
from blocklm.evaluation.tasks.build import task_items
from blocklm.evaluation.tasks.dead_api import dead_api_items
from blocklm.evaluation.tasks.imports import import_items
from blocklm.evaluation.tasks.item import TaskItem, spread
from blocklm.evaluation.tasks.repository_state import files_before, removed_symbols
from blocklm.evaluation.tasks.ripple_edit import ripple_items, substitution
from blocklm.evaluation.tasks.which_file import CommitFiles, distractors
from blocklm.evaluation.tasks.write_test import test_items as asked_tests
from blocklm.git.repository import open_repository
from blocklm.mining.hunks import hunks_of
from tests.conftest import ROOT, GitRepository, changes_of, function

PLAIN = {view: FAMILY["plain"] for view in FAMILY["plain"].prompts}
Items = dict[str, list[TaskItem]]

ENGINE = """use std::time::Duration;

pub struct Engine {
    position: u64,
}

impl Engine {
    pub fn advance_by(&mut self, steps: u64) -> u64 {
        self.position += steps;
        self.position
    }
}
"""
CALLERS = {
    "src/clock.rs": "pub fn tick(engine: &mut Engine) -> u64 {\n    let moved = engine.advance_by(1);\n    moved + 1\n}\n",
    "src/race.rs": "pub fn lap(engine: &mut Engine, length: u64) {\n    start(engine);\n    engine.advance_by(length * 2);\n    stop(engine);\n}\n",
    "py/replay.py": "def replay(engine, log):\n    for entry in log:\n        engine.advance_by(entry.steps)\n    return engine\n",
}
HALT = """
    /// Goes back to the start and says how far it was.
    pub fn halt(&mut self) -> u64 {
        let reached = self.position;
        self.position = 0;
        reached
    }
}
"""
HALT_TEST = """use engine::Engine;
use std::mem;

#[test]
fn halting_goes_back_to_the_start() {
    let mut engine = Engine::default();
    engine.advance_by(7);
    assert_eq!(mem::take(&mut engine).halt(), 7);
}
"""
TALLY = '''import json
from pathlib import Path

LIMIT = 9


def tally(path, names):
    """Count the names in a file."""
    found = json.loads(Path(path).read_text())
    return {name: found.count(name) for name in names[:LIMIT]}
'''


def part(number: int) -> dict[str, str]:
    """Return a file in each language that resembles no other."""
    names = [f"{word}_{number * 7 + at}" for at, word in enumerate(("load", "merge", "split"))]
    rust = "".join(f"pub fn {name}(x{number}: u8) -> u8 {{\n    x{number} * {number + 3}\n}}\n" for name in names)
    return {f"src/parts/part_{number}.rs": rust, f"py/part_{number}.py": function(number)}


def training_history(path: Path) -> GitRepository:
    """Build the training commits: eighteen, three of which change the engine and the clock together."""
    repository = GitRepository(path)
    for number in range(10):
        repository.commit(f"Add part {number}", part(number))
    repository.commit("Build the engine", {"src/engine.rs": ENGINE} | CALLERS)
    for number in range(3):
        clock = CALLERS["src/clock.rs"] + f"\npub fn alarm_{number}(at: u64) -> bool {{\n    at > {number * 60}\n}}\n"
        engine = ENGINE + f"\npub const GEAR_{number}: u64 = {number * 11};\n"
        repository.commit(f"Set the clock to {number}", {"src/clock.rs": clock, "src/engine.rs": engine})
    vendored = {f"vendor/v{number}.py": function(number + 50) for number in range(12)}
    rest = {"src/clock.rs": CALLERS["src/clock.rs"], "src/engine.rs": ENGINE}
    repository.commit("Rest", rest | vendored)
    for number in range(20, 23):
        repository.commit(f"Add part {number}", part(number))
    return repository


def add_exam_commits(repository: GitRepository) -> list[str]:
    """Add the exam's commits; the last gives no items, because it holds a special token."""
    halting = ENGINE.removesuffix("}\n") + HALT
    files = {"src/engine.rs": halting, "tests/halt.rs": HALT_TEST}
    moved = {path: text.replace("advance_by", "move_on") for path, text in (files | CALLERS).items()}
    return [
        repository.commit("Let the engine halt", files),
        repository.commit("Count names (#7)", {"py/tally.py": TALLY}),
        repository.commit("Say move_on", moved),
        repository.commit(
            "Cut", {"py/cut.py": "def cut(text):\n    parts = text.split('<file_sep>')\n    return parts[1:]\n"}
        ),
    ]


def items_of(repository: GitRepository, corpora: Path, test_commits: int) -> Items:
    changes = changes_of(repository.path, corpora)
    curated = curate(changes, MiningArguments(corpus_dir=str(corpora), test_commits=test_commits))
    opened = open_repository(repository.path, corpora)
    return task_items([opened], changes.dataset, curated.verdicts, PLAIN, frozenset({"<file_sep>"}))


@pytest.fixture(scope="module")
def exam_tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Items]:
    """The exam's commits and their items."""
    root = tmp_path_factory.mktemp("tasks")
    repository = training_history(root / "engine")
    return add_exam_commits(repository), items_of(repository, root / "corpora", 4)


@pytest.mark.parametrize("task", ["ripple_edit", "body", "test", "imports", "which_file", "dead_api"])
def test_each_task_has_the_stored_prompts(exam_tasks: tuple[list[str], Items], task: str) -> None:
    """A changed prompt makes scores of two versions incomparable: change the golden file on purpose or not at all."""
    commits, items = exam_tasks
    golden = json.loads((ROOT / "tests/data/tasks.json").read_text(encoding="utf-8"))
    assert [fields_of(item, commits) for item in items[task]] == golden[task]


def fields_of(item: TaskItem, commits: list[str]) -> dict[str, Any]:
    """Return the fields of an item, except for its id."""
    prompt = {key: value for key, value in asdict(item.prompt).items() if value}
    fields = asdict(item) | {"commit": commits.index(item.commit), "removed": sorted(item.removed), "prompt": prompt}
    del fields["id"]
    given: dict[str, Any] = json.loads(json.dumps({key: value for key, value in fields.items() if value}))
    return given


def test_items_have_unique_names_and_do_not_show_the_truth(exam_tasks: tuple[list[str], Items]) -> None:
    items = [item for some in exam_tasks[1].values() for item in some]
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.truth not in item.prompt.text
        assert not any(symbol in item.prompt.text for symbol in item.removed)


def test_later_commits_do_not_change_the_tasks(exam_tasks: tuple[list[str], Items], tmp_path: Path) -> None:
    """Later commits restore a removed symbol, delete files of the exam, and change partner files together."""
    repository = training_history(tmp_path / "engine")
    commits = add_exam_commits(repository)
    later = {
        "src/back.rs": "pub fn advance_by(more: f64) -> f64 {\n    more.sqrt()\n}\n",
        "py/tally.py": None,
        "py/part_1.py": None,
    }
    repository.commit(
        "Look back", later | {"src/engine.rs": "pub struct Turbine;\n", "src/parts/part_2.rs": "pub struct Two;\n"}
    )
    assert commits == exam_tasks[0]
    found = items_of(repository, tmp_path / "corpora", 5)
    for task, before in exam_tasks[1].items():
        assert [item for item in found[task] if item.commit in commits] == before


def test_many_items_of_a_commit_are_spread_over_its_files_and_folders() -> None:
    def named(path: str, count: int) -> list[TaskItem]:
        return [TaskItem(f"{path}{at}", "body", "c", path, None, Prompt("", (0, 0)), "") for at in range(count)]

    items = [*named("a/x.py", 9), *named("a/y.py", 9), *named("b/z.py", 1)]
    chosen = spread(items)
    assert len(chosen) == 8
    assert items[-1] in chosen
    assert Counter(item.path for item in spread([*items[:9], items[-1]])) == {"a/x.py": 4, "b/z.py": 1}
    assert chosen == spread(items)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("a.go(1)", "a.run(1)", (("go",), ("run",))),
        ("go(a)", "go(a, b)", ((), (",", " ", "b"))),
        ("x = x", "x = x + x", ((), (" ", "+", " ", "x"))),
        ("same", "same", ((), ())),
    ],
)
def test_a_substitution_is_the_difference_between_common_ends(old: str, new: str, found: object) -> None:
    assert substitution(old, new) == found


def hunk_of(diff: str, path: str = "src/a.rs") -> AnnotatedHunk:
    (hunk,) = hunks_of(diff)
    text = HunkText("demo", "c" * 40, path, "Rename", 0, hunk.lines)
    return AnnotatedHunk(0, text, "test", 1.0, False, "", "Rust", 0, datetime(2024, 1, 1, tzinfo=UTC))


def test_a_ripple_shows_no_other_change_and_asks_for_no_copy() -> None:
    diff = (
        "@@ -1,9 +1,9 @@\n a\n-go(1)\n+run(1)\n-gone\n b\n-go(2)\n+run(2)\n c\n-old\n-older\n+new\n-go(3)\n+run(3)\n"
        " d\n-go(4)\n+run(4)\n e\n-(\n+[\n f\n-(\n+[\n"
    )
    first = hunk_of("@@ -1,3 +1,3 @@\n b\n-go(2)\n+run(2)\n c\n", "src/b.rs")
    (item,) = ripple_items([first, hunk_of(diff)], PLAIN)
    assert (item.before, item.truth) == ("d\ngo(4)\ne\n", "d\nrun(4)\ne\n")


def test_a_trap_asks_only_where_the_line_above_is_the_old_one_and_for_no_definition() -> None:
    diff = (
        "@@ -1,9 +1,5 @@\n fn a(x: X) {\n-    x.dead(dead(1));\n-    let y = 2;\n-    x.deep.dead(2);\n     stay();\n-    let z = dead(3);\n"
        "+    begin();\n+    let z = alive(3);\n-    dead(4);\n+    alive(4);\n end();\n-fn dead(\n+fn alive(\n"
    )
    items = list(dead_api_items([hunk_of(diff)], PLAIN, frozenset({"dead"})))
    assert [(item.prefix, item.truth) for item in items] == [
        ("fn a(x: X) {\n    x.", ""),
        ("fn a(x: X) {\n    stay();\n    begin();\n    let z = ", "alive(3);\n"),
    ]
    assert not list(dead_api_items([hunk_of(diff)], PLAIN, frozenset()))


NEW = "+{use}+\n+pub fn {name}(wheel: &Wheel) -> u64 {{\n+    let held = wheel.{name}();\n+    held + 1\n+}}\n"
BRAKE, MOTOR = (
    hunk_of("@@ -0,0 +1,6 @@\n" + NEW.format(use=f"use crate::{name};\n", name=name), f"src/{name}.rs")
    for name in ("brake", "motor")
)


def test_the_code_under_test_is_found_by_the_tests_name() -> None:
    body = "+    let same = brake();\n+    motor(same);\n"
    for name in ("brake", "motor"):
        test = hunk_of(f"@@ -0,0 +1,5 @@\n+#[test]\n+fn {name}_works() {{\n{body}+}}\n", "tests/all.rs")
        (item,) = asked_tests([BRAKE, MOTOR, test], PLAIN)
        assert item.prompt.text.startswith(f"### src/{name}.rs\n")
        assert item.truth == "    let same = brake();\n    motor(same);"
    assert not list(asked_tests([test], PLAIN)), "a commit of nothing but tests"


def test_an_import_task_shows_the_code_added_further_down() -> None:
    use = hunk_of("@@ -1,2 +1,3 @@\n //! Wheels.\n+use crate::Tyre;\n use crate::Hub;\n")
    far = hunk_of("@@ -9,2 +10,3 @@\n stays();\n+roll(Tyre::new());\n stays();\n")
    (item,) = import_items([use, far, hunk_of("@@ -1 +1,2 @@\n a\n+elsewhere(b)\n", "src/b.rs")], PLAIN)
    assert item.truth == "use crate::Tyre;"
    assert item.prompt.text == (
        "### src/a.rs\nroll(Tyre::new());\n### demo/src/a.rs, below the cursor\n\nuse crate::Hub;\n\n"
        "### demo/src/a.rs, up to the cursor\n//! Wheels.\n"
    )


def test_a_body_task_needs_a_new_body_no_longer_than_training_samples() -> None:
    assert [item.truth for item in body_items([BRAKE], PLAIN)] == ["    let held = wheel.brake();\n    held + 1"]
    old = "@@ -1,5 +1,6 @@\n pub fn f(a: u8) -> u8 {\n+    let b = a + a;\n+    b + 1\n }\n"
    long = "@@ -0,0 +1,99 @@\n+pub fn f(a: u8) -> u8 {\n" + "+    step(a, a + 1);\n" * 40 + "+}\n"
    assert not list(body_items([hunk_of(old), hunk_of(long)], PLAIN))


def test_distractors_are_partners_first_and_then_neighbours() -> None:
    others = (
        [f"a/b/f{at}.rs" for at in range(8)] + [f"a/g{at}.rs" for at in range(8)] + [f"z/h{at}.rs" for at in range(8)]
    )
    changed = [["a/b/x.rs", "z/h1.rs"], ["a/b/x.rs", "z/h1.rs", "z/h0.rs", "gone.rs"]]
    together = CoChanges((path, seq) for seq, paths in enumerate(changed) for path in paths)
    scene = CommitFiles(frozenset([*others, "a/b/x.rs", "a/b/same.rs"]), frozenset({"a/b/x.rs", "a/b/same.rs"}))
    found = distractors("a/b/x.rs", scene, together, random.Random(0))
    assert found[:2] == ["z/h1.rs", "z/h0.rs"]
    assert set(found[2:10]) == set(others[:8])
    assert set(found[10:18]) == set(others[8:16])
    assert len(set(found)) == 20
    assert "a/b/same.rs" not in found


def test_a_dead_symbol_was_defined_before_and_exists_nowhere_now(tmp_path: Path) -> None:
    repository = GitRepository(tmp_path / "r")
    lone, kept = "def lone(a):\n    local = a\n    return local\n", "def kept(a):\n    return a\n"
    first = repository.commit("Begin", {"a.py": lone + kept, "b.txt": "kept stands in a text\n"})
    second = repository.commit(
        "Go", {"c.py": lone.replace("lone", "new"), "a.py": "def other(b):\n    return b + 1\n"}
    )
    changes = changes_of(repository.path, tmp_path / "corpora")
    row = next(row for row in changes.dataset if row["commit"] == second and row["path"] == "a.py")
    text = HunkText("r", second, "a.py", "Go", 0, hunks_of(row["diff"])[0].lines)
    hunk = AnnotatedHunk(0, text, "test", 1.0, False, "", "Python", 1, datetime(2024, 1, 1, tzinfo=UTC))
    opened = open_repository(repository.path, tmp_path)
    assert removed_symbols([opened], changes.dataset, [[hunk]]) == {second: frozenset({"lone"})}
    assert files_before([opened], [first, second]) == {first: frozenset(), second: frozenset({"a.py", "b.txt"})}

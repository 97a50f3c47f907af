"""A file is rebuilt as it was while a commit was written: edits above a place are made, those below are not."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.corpus.places.file_state import file_states
from tests.conftest import GitRepository

OLD = "".join(f"line {number}\n" for number in range(40))
NEW = OLD.replace("line 3\n", "line three\nand more\n").replace("line 20\n", "").replace("line 36\n", "line 36!\n")


def diff_of(repository: GitRepository) -> str:
    patch = repository.git("show", "--format=", "--unified=3", "HEAD")
    return patch[patch.index("@@") :]


def test_each_hunk_stands_between_the_new_text_above_and_the_old_text_below(
    make_repository: Callable[[str], GitRepository],
) -> None:
    repository = make_repository("demo")
    repository.commit("Begin", {"a.txt": OLD})
    repository.commit("Change", {"a.txt": NEW})
    states = file_states(NEW, diff_of(repository))
    assert states is not None
    first, second, third = states
    assert first.above(99) == []
    assert "line 20" in first.below(99)
    assert "line 36" in first.below(99)
    assert second.above(99)[:5] == ["line 0", "line 1", "line 2", "line three", "and more"]
    assert second.below(99)[-4:] == ["line 36", "line 37", "line 38", "line 39"]
    assert "line 20" not in third.above(99)
    assert third.below(99) == []


def test_a_text_that_the_diff_does_not_lead_to_has_no_states() -> None:
    assert file_states("a\nX\nb\n", "@@ -1,2 +1,3 @@\n a\n+x\n b\n") is None


@pytest.mark.parametrize("seed", range(20))
def test_applying_the_hunks_in_order_turns_the_old_file_into_the_new(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    old = [chance.choice("abc") * 3 for _ in range(chance.randrange(60))]
    new = [line for line in old if chance.random() > 0.1]
    for _ in range(chance.randrange(1, 8)):
        new.insert(chance.randrange(len(new) + 1), f"new {chance.randrange(9)}")
    texts = ["".join(f"{line}\n" for line in lines) for lines in (old, new)]
    for name, text in zip(("old", "new"), texts, strict=True):
        (tmp_path / name).write_text(text.removesuffix("\n") if seed % 3 == 0 else text)
    done = subprocess.run(
        ["git", "diff", "--no-index", "--unified=3", "old", "new"], cwd=tmp_path, capture_output=True, text=True
    )
    states = file_states((tmp_path / "new").read_text(), done.stdout[done.stdout.index("@@") :])
    assert states is not None
    for state in states:
        before = [*state.above(99), *(line for mark, line in state.hunk if mark != "+"), *state.below(99)]
        after = [*state.above(99), *(line for mark, line in state.hunk if mark != "-"), *state.below(99)]
        if state is states[0]:
            assert before == old
        if state is states[-1]:
            assert after == new

"""A commit made by a machine with a wrong clock lands with its neighbours, and moves none of them."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.git.repository import open_repositories
from blocklm.mining.landing_times import DAY, land
from blocklm.mining.mine import mine
from tests.conftest import GitRepository, changes_of, rendered

Make = Callable[[str], GitRepository]
START = 1_700_000_000
RIGHT = [START + DAY * at for at in range(20)]
NOW = float(RIGHT[-1] + DAY)
AHEAD, BEHIND = 5_757_000_000, 3_600


def landed(wrong: dict[int, int], now: float = NOW) -> list[int]:
    """Return the landing times of twenty commits a day apart, some of which have a wrong time."""
    return land([wrong.get(at, time) for at, time in enumerate(RIGHT)], range(20), now)


@pytest.mark.parametrize("wrong", [AHEAD, BEHIND, START + 900 * DAY], ids=["of 2152", "of 1970", "ahead of the head"])
@pytest.mark.parametrize("at", [0, 7, 18, 19])
def test_one_wrong_clock_moves_no_other_commit(at: int, wrong: int) -> None:
    found = landed({at: wrong}, NOW + 2000 * DAY if wrong < AHEAD and at < 19 else NOW)
    assert found == sorted(found)
    assert [time for place, time in enumerate(found) if place != at] == [*RIGHT[:at], *RIGHT[at + 1 :]]
    assert found[at] in (RIGHT[max(at - 1, 0)], RIGHT[min(at + 1, 19)])


def test_several_wrong_clocks_are_no_majority() -> None:
    wrong = {at: AHEAD + at for at in (3, 4, 5, 12)} | {9: BEHIND, 15: BEHIND + 1}
    assert [time for at, time in enumerate(landed(wrong)) if at not in wrong] == [
        time for at, time in enumerate(RIGHT) if at not in wrong
    ]


def test_the_history_is_trusted_if_this_machines_clock_is_behind() -> None:
    assert landed({}, now=0.0) == RIGHT
    assert landed({}, now=float(RIGHT[4])) == RIGHT


def test_a_branch_lands_after_the_commits_before_it() -> None:
    """Its commits are older than the main line's newest; one of them comes from a machine of the year 2152."""
    seconds = [START, START + 10, START + 20, START + 5, AHEAD, START + 25, START + 30]
    assert land(seconds, [0, 1, 2, 6], NOW) == [START, START + 10, START + 20, START + 20, START + 20, START + 25, START + 30]  # fmt: skip


def project(make: Make, name: str, wrong: dict[int, int], step: int = DAY) -> GitRepository:
    """Thirty commits of one file each, `step` seconds apart, some of which have a wrong time."""
    repository = make(name)
    for number in range(30):
        repository.commits = (wrong.get(number, START + step * number) - START) // 60
        repository.commit(f"Add {name} {number} to the rest", {f"{name}{number}.py": f"def {name}{number}(value):\n    return value * {number} + {number}\n"})  # fmt: skip
    return repository


@pytest.mark.parametrize(
    "wrong", [{9: AHEAD}, {29: AHEAD}, {0: BEHIND}, {20: BEHIND}, {9: AHEAD, 20: BEHIND}], ids=str
)
def test_the_report_and_the_splits_show_the_corrected_years(
    make_repository: Make, tmp_path: Path, wrong: dict[int, int]
) -> None:
    path = project(make_repository, "lamp", wrong).path
    changes = changes_of(path, tmp_path / "corpora")
    report = changes.report["repository"]
    assert {report["first_commit_time"][:4], report["last_commit_time"][:4]} == {"2023"}
    corpus = rendered(changes, curate(changes, MiningArguments(repo=[str(path)])), tmp_path / "corpora", recency="30")
    spans = [span[end] for span in corpus.report["splits"].values() for end in ("from", "to")]
    assert {moment[:4] for moment in spans} == {"2023"}
    assert spans == sorted(spans)
    weights = corpus.splits["train"]["weight"][:]
    assert max(weights) / min(weights) > 1.3, "what is newer weighs more"


def test_a_wrong_clock_does_not_move_the_other_repository(make_repository: Make, tmp_path: Path) -> None:
    parts = [project(make_repository, name, {8: AHEAD, 12: BEHIND} if name == "a" else {}) for name in ("a", "b")]
    mining = MiningArguments(repo=[str(part.path) for part in parts], corpus_dir=str(tmp_path / "corpora"))
    messages = mine(open_repositories(mining), mining).dataset["message"][:]
    places = [(int(text.split()[2]), text.split()[1]) for text in messages]
    assert all(later[0] >= earlier[0] - 1 for earlier, later in pairwise(places))
    assert {name for _, name in places[:20]} == {"a", "b"}

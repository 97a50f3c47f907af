"""Scores of choices, imports and dead symbols, computed by hand."""

import pytest

from blocklm.corpus.prompt_templates import Prompt
from blocklm.evaluation.tasks.item import TaskItem
from blocklm.evaluation.tasks.task_scores import choice_scores, dead_api_scores, import_scores


def item(**fields: object) -> TaskItem:
    given: dict[str, object] = {"truth": "", "candidates": (), "wanted": (), "removed": frozenset()} | fields
    return TaskItem("i", "t", "c", "p", None, Prompt("", (0, 0)), **given)  # type: ignore[arg-type]


def test_each_wanted_path_is_ranked_among_the_unwanted() -> None:
    asked = item(candidates=("a", "b", "c", "d", "e", "f", "g", "h"), wanted=("c", "h"))
    # Unwanted: 1 2 5 6 7 8. `c` with 3 comes third; `h` with 8 comes last, after the one that is as cheap.
    assert choice_scores(asked, [1, 2, 3, 5, 6, 7, 8, 8]) == {"mrr": (1 / 3 + 1 / 7) / 2, "hit_at_5": 0.5}
    # A right answer before another does it no harm.
    assert choice_scores(asked, [9, 9, 2, 9, 9, 9, 9, 1]) == {"mrr": 1.0, "hit_at_5": 1.0}


def test_an_untrained_model_chooses_no_better_than_chance() -> None:
    names = tuple(map(str, range(21)))
    ranks = [choice_scores(item(candidates=names, wanted=(names[at],)), list(range(21))) for at in range(21)]
    assert sum(score["mrr"] for score in ranks) / 21 == pytest.approx(0.1736, abs=1e-4)
    assert sum(score["hit_at_5"] for score in ranks) / 21 == pytest.approx(5 / 21)
    assert choice_scores(item(candidates=names, wanted=("3",)), [1.0] * 21) == {"mrr": 1 / 21, "hit_at_5": 0.0}


@pytest.mark.parametrize(
    ("output", "f1", "match"),
    [
        ("use b;\n\n  use   a;", 1.0, 1.0),
        ("use a;\nuse c;\nuse d;\n", 0.4, 0.0),
        ("use a;\nuse a;\n", 2 / 3, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_imports_are_sets_of_lines(output: str, f1: float, match: float) -> None:
    assert import_scores(item(truth="use a;\nuse b;\n"), output) == {
        "import_f1": pytest.approx(f1),
        "import_match": match,
    }


@pytest.mark.parametrize(
    ("output", "dead"),
    [("old_api(1)", 1.0), ("self.old_api", 1.0), ("older(very_old_api, old_api_2)", 0.0), ("", 0.0)],
)
def test_a_dead_symbol_counts_only_as_a_complete_identifier(output: str, dead: float) -> None:
    assert dead_api_scores(item(removed=frozenset({"old_api", "gone"})), output) == {"dead_api": dead}

"""Any recipe trains or is refused in two lines; `tests/support/odd_recipes.py` tries many more."""

from pathlib import Path

import pytest

from tests.support.odd_recipes import odd_recipes, outcome


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus folder of all recipes, so that the history is mined once."""
    return tmp_path_factory.mktemp("odd") / "corpora"


def test_odd_values_train_or_are_refused(
    tmp_path: Path, corpora: Path, project: Path, tiny_models: dict[str, Path]
) -> None:
    where = {"model_name_or_path": str(tiny_models["llama"]), "repo": str(project), "corpus_dir": str(corpora)}
    ends = []
    for at, recipe in enumerate(odd_recipes(2026, 20)):
        result = outcome(recipe | where | {"output_dir": str(tmp_path / f"{at}" / "run")}, tmp_path / f"{at}")
        assert not result.startswith("Traceback"), f"{recipe}\n{result}"
        ends.append(result.partition(":")[0])
    assert ends.count("trained") >= 4, "a fifth at least is not refused"
    assert ends.count("refused") >= 6

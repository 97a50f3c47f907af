"""An adapter of another repository gains nothing if the base knows the form, and a leak of the exam is detected."""

import random
import shutil
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import yaml

from blocklm.config.recipe import parse_recipe
from blocklm.errors import UserError
from blocklm.evaluation.exam.rerun import ComparedModels, evaluate
from blocklm.git.repository import joint_head, open_repositories
from blocklm.interrupts import Interrupts
from blocklm.pipeline import run_job
from blocklm.runs.completed import open_run
from blocklm.runs.directory import claim_run_directory
from tests.conftest import GitRepository

LETTERS, WORDS, EARLY, LATE = 5, 8, 56, 90


def grown(path: Path, seed: int, commits: int, words: int | None) -> GitRepository:
    """Build a history with two functions in each commit.

    Their names come from so many words, or are all new; the names that they call are new.
    """
    chance = random.Random(seed)

    def word() -> str:
        return "".join(chance.choices(ascii_lowercase, k=LETTERS))

    known = [word() for _ in range(words or 0)]
    repository, text = GitRepository(path), {"src/a.py": "", "src/b.py": ""}
    for number in range(commits):
        for name in text:
            one, two, three = chance.sample(known, 3) if known else (word(), word(), word())
            call = f"    {two} = value.{three}({number % 7})\n    return {two}.{word()}{word()}()\n"
            text[name] += f"def {one}_{number}(value):\n{call}\n\n"
        repository.commit(f"Add step {number}", text)
        if number + 1 == EARLY:
            repository.git("branch", "early")
    return repository


def trained(place: Path, name: str, repository: GitRepository, model: Path, **keys: Any) -> Path:
    """A run as `scripts/train.py` does it, in this process."""
    given: dict[str, Any] = {
        "model_name_or_path": str(model), "repo": str(repository.path), "output_dir": str(place / name),
        "corpus_dir": str(place / "corpora"), "views": {"edit": 1}, "survival": False, "use_peft": True, "lora_r": 32,
        "lora_alpha": 64, "bf16": False, "max_length": 256, "max_steps": 100, "learning_rate": 5e-3, "lr_scheduler_type": "cosine",
        "per_device_train_batch_size": 4, "eval_strategy": "no", "save_strategy": "no", "behavioral_items": 0,
        "hardware_interval": 0, "exam": False, "exam_arms": ["base", "tuned"], "exam_task_items": 0, "seed": 7,
    }  # fmt: skip
    path = place / f"{name}.yaml"
    path.write_text(yaml.safe_dump(given | keys))
    recipe = parse_recipe([str(path)])
    repositories = open_repositories(recipe.mining)
    claim_run_directory(recipe, joint_head(repositories))
    run_job(recipe, repositories, Interrupts())
    return place / name


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proof")


@pytest.fixture(scope="module")
def house(place: Path) -> GitRepository:
    return grown(place / "house", 2, LATE, WORDS)


@pytest.fixture(scope="module")
def base(place: Path, tiny_models: dict[str, Path]) -> Path:
    """A model that has learned the form of such functions and questions, but no word of them."""
    speech = grown(place / "speech", 1, 60, None)
    return trained(place, "base", speech, tiny_models["llama"], use_peft=False, max_steps=300, learning_rate=3e-3)


@pytest.fixture(scope="module")
def own(place: Path, house: GitRepository, base: Path) -> Path:
    """The run under exam.

    It was trained on the house as it was on the branch `early`, without that branch's last commits.
    """
    return trained(place, "own", house, base, branch="early")


def controlled(run: Path, *controls: Path) -> dict[str, Any]:
    """Return an exam with controls."""
    result = evaluate(open_run(run), ComparedModels((), controls), new_commits=False)
    assert result["verdict"] == "better"
    return result


def test_an_adapter_of_another_repository_gains_nothing(place: Path, own: Path, base: Path) -> None:
    """The control: as many steps on other words."""
    foreign = trained(place, "foreign", grown(place / "elsewhere", 3, EARLY, WORDS), base, exam=True)
    copy = place / "copy"
    shutil.copytree(foreign, copy)
    result = controlled(own, foreign, copy)
    (first, second) = (result["arms"][f"control:elsewhere-{number}"] for number in (1, 2))
    assert first["bits_per_byte"] == second["bits_per_byte"]
    assert first["against_base"]["verdict"] != "better"
    assert first["tuned_against_it"]["verdict"] == "better"
    assert result["rank"] == {"place": 1, "of": 3}
    assert result["controls_mean"]["mean_bits_per_byte"] == pytest.approx(first["bits_per_byte"])
    assert result["controls_mean"]["tuned_against_it"]["verdict"] == "better"
    gains = [control["own_gain"] for control in result["controls"]]
    assert gains[0] == gains[1]
    assert gains[0]["verdict"] == "better", "a weak rival would prove nothing"


def test_a_run_named_twice_is_no_two_controls(own: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        controlled(own, own, own)


def test_an_adapter_trained_on_the_exam_is_detected(place: Path, own: Path, house: GitRepository, base: Path) -> None:
    """The leak: the same repository, split so late that the exam's commits are the newest of the training."""
    leaked = trained(place, "leaked", house, base, recency="newest", max_train_samples=50)
    result = controlled(own, leaked)
    (found,) = (arm for name, arm in result["arms"].items() if name.startswith("control:"))
    assert result["rank"] == {"place": 2, "of": 2}
    assert found["tuned_against_it"]["verdict"] == "worse"
    assert found["tuned_against_it"]["delta_percent"] > 15

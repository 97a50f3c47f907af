"""`train.py --repos`: a run for each repository of a list, complete ones left alone, interrupted ones resumed."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.runs.completed import open_run
from tests.conftest import GitRepository
from tests.support.runs import manifest
from tests.support.scripts import Running, refused, run_in_process


@pytest.fixture
def listed(workplace: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> Callable[..., list[str]]:
    """The arguments that train on a list of repositories, without what costs time."""

    def arguments(*repositories: Path | str) -> list[str]:
        (workplace / "list.txt").write_text("\n".join(map(str, repositories)))
        given = [tiny_recipe, "--repos", "list.txt", "--output_dir", "runs/all"]
        given += ["--model_name_or_path", tiny_models["llama"], "--exam", "false", "--behavioral_items", "0"]
        return list(map(str, given))

    return arguments


def test_a_repository_that_fails_stops_no_other_and_a_complete_run_is_left_alone(
    listed: Callable[..., list[str]], workplace: Path, project: Path
) -> None:
    GitRepository(workplace / "empty")
    command = [*listed("empty", project), "--max_steps", "2"]
    first = run_in_process("train.py", *command, cwd=workplace)
    assert "1 of 2 repositories failed: empty" in refused(first)
    assert [line.split()[-1] for line in first.stdout.splitlines()[2:4]] == ["failed", "trained"]
    run = open_run(workplace / "runs" / "all" / "project")
    assert run.recipe.mining.repo == [str(project)]
    assert run.manifest["training"]["steps"] == 2
    assert "trained on" in (run.path / "train.log").read_text()

    again = run_in_process("train.py", *command, cwd=workplace)
    assert [line.split()[-1] for line in again.stdout.splitlines()[2:4]] == ["failed", "unchanged"]
    assert manifest(run.path) == run.manifest


def test_one_adapter_for_all_repositories_is_compared_with_the_own_ones(
    listed: Callable[..., list[str]], run: Path, workplace: Path, project: Path, lamps: GitRepository
) -> None:
    """A joint run is resumed, reopened and examined like any other; one command compares it in several exams."""
    command = [*listed(project, lamps.path), "--joint", "--repository_weights", "{house: 0.5}", "--max_steps", "2"]
    done = run_in_process("train.py", *command, cwd=workplace)
    assert done.returncode == 0, done.stderr
    joint = open_run(workplace / "runs" / "all")
    assert (joint.recipe.mining.repo, joint.recipe.mining.split_each) == ([str(project), str(lamps.path)], True)
    taught = joint.manifest["corpus"]["repositories"]
    assert [(part["name"], part["weight"]) for part in taught] == [("project", 1), ("house", 0.5)]
    assert "already complete" in run_in_process("train.py", *command, cwd=workplace).stdout

    other = Path(shutil.copytree(run, run.with_name("other")))
    given = (run, other, "--quick", "--exam_items", "6", "--control", joint.path)
    done = run_in_process("evaluate.py", *given, cwd=workplace)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("Adapters in the exam of each run")[2].splitlines()
    rows = [line.split()[:2] for line in table[2:]]
    assert rows == [["uninterrupted", "own"], ["uninterrupted", "all"], ["other", "own"], ["other", "all"]]


def test_flags_of_a_list_are_refused_without_one(workplace: Path) -> None:
    done = run_in_process("train.py", "recipe.yaml", "--joint", cwd=workplace)
    assert "`--joint` is for a list of repositories" in refused(done)


@pytest.mark.slow
def test_an_interrupted_list_resumes_at_the_run_that_it_left(
    listed: Callable[..., list[str]],
    start: Callable[[list[str]], Running],
    workplace: Path,
    project: Path,
    lamps: GitRepository,
) -> None:
    running = start(listed(project, lamps.path))
    running.wait_for(workplace / "runs" / "all" / "project" / "checkpoint-4")
    running.signal(signal.SIGTERM)
    code, output = running.end()
    assert code == 128 + signal.SIGTERM, output
    assert manifest(workplace / "runs" / "all" / "project")["status"] == "interrupted"
    assert not (workplace / "runs" / "all" / "house").exists()
    again = run_in_process("train.py", *listed(project, lamps.path), cwd=workplace)
    assert again.returncode == 0, again.stderr
    runs = {name: manifest(workplace / "runs" / "all" / name)["training"] for name in ("project", "house")}
    assert [runs[name]["steps"] for name in ("project", "house")] == [12, 12]
    assert runs["project"]["resumed_from"] in range(4, 12)
    assert not runs["house"]["resumed_from"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--repo .", "`--repo` and `--repos` both name repositories"),
        ("--continue_from runs/two", "`continue_from` names one run, and `--repos` makes several"),
        ("--push_to_hub true --hub_model_id me/mine --hub_base_model me/base", "`push_to_hub` names one model"),
    ],
)
def test_keys_for_one_run_are_refused(
    listed: Callable[..., list[str]], workplace: Path, project: Path, arguments: str, message: str
) -> None:
    assert message in refused(run_in_process("train.py", *listed(project), *arguments.split(), cwd=workplace))
    assert not (workplace / "runs").exists()


def test_several_processes_of_a_launcher_are_refused(
    listed: Callable[..., list[str]], workplace: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "a launcher has started several" in refused(run_in_process("train.py", *listed(project), cwd=workplace))

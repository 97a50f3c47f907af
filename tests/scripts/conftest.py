"""The main job, run once for all tests, and a folder of the user for each."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.scripts import Running, run_in_process
from tests.support.shared import build_once


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus folder of all these runs, so that each history is mined once."""
    return build_once(tmp_path_factory, "corpora", lambda folder: None)


@pytest.fixture
def workplace(tmp_path: Path, corpora: Path) -> Path:
    """A user's folder, in which runs are written."""
    (tmp_path / "corpora").symlink_to(corpora)
    return tmp_path


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    corpora: Path,
    project: Path,
    tiny_models: dict[str, Path],
    tiny_recipe: Path,
) -> Path:
    """An uninterrupted run of the tiny Llama; `run` is a copy that may be changed."""

    def train(folder: Path) -> None:
        (folder / "corpora").symlink_to(corpora)
        done = run_in_process(
            "train.py", tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["llama"], "--output_dir", "runs/uninterrupted",
            cwd=folder,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "Bits per byte" in done.stdout
        lines = done.stderr.splitlines()
        assert len([line for line in lines if line.startswith("step 1 of 12: loss ")]) == 1, (
            "once a minute, no live line"
        )
        assert [line.split(":")[0] for line in lines if "evaluation loss" in line] == ["step 4", "step 8", "step 12"]
        assert "{'" not in done.stdout + done.stderr, "no printed dictionaries"

    return build_once(tmp_path_factory, "trained", train) / "runs" / "uninterrupted"


@pytest.fixture
def run(trained: Path, workplace: Path) -> Path:
    """The trained run, in this test's own folder."""
    return Path(shutil.copytree(trained, workplace / "runs" / "uninterrupted"))


@pytest.fixture
def train(workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> Callable[..., Path]:
    """Train a tiny model to the end in this process, without what costs time: no exam, no answers. Returns the run."""

    def trained(model: str, *more: str) -> Path:
        run = workplace / "runs" / model
        given = (tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models[model], "--output_dir", run)
        done = run_in_process("train.py", *given, "--exam", "false", "--behavioral_items", "0", *more, cwd=workplace)
        assert done.returncode == 0, done.stderr
        return run

    return trained


@pytest.fixture
def start(workplace: Path) -> Iterator[Callable[[list[str]], Running]]:
    """Start training processes, and end them after the test."""
    started: list[Running] = []

    def begin(arguments: list[str]) -> Running:
        started.append(Running(arguments, workplace))
        return started[-1]

    yield begin
    for running in started:
        running.close()

"""Each script in a process of its own: its help, and how it refuses bad input."""

from pathlib import Path

import pytest

from tests.support.scripts import refused, run_in_process, run_script


@pytest.mark.parametrize(
    "name",
    ["train.py", "mine.py", "evaluate.py", "fetch_model.py", "export.py", "report.py", "generate.py", "serve.py"],
)
def test_help_shows_an_example_command(name: str, tmp_path: Path) -> None:
    done = run_in_process(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"scripts/{name}" in done.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train.py", "no recipe given"),
        ("mine.py", "no recipe given"),
        ("plan.py", "no recipe given"),
        ("search.py", "no recipe given"),
        ("evaluate.py nowhere --seed 9", "would change what was trained on"),
        ("export.py nowhere --push_to_hub x", "is no name on the hub"),
        ("report.py nowhere", "holds no manifest.json"),
        ("generate.py nowhere --view message --retrieve 1", "has no effect here"),
        ("review.py nowhere", "is not a complete run"),
        ("benchmark.py exactness --repo nowhere", "does not exist"),
    ],
)
def test_a_script_refuses_bad_input_with_two_lines_and_exit_code_2(command: str, message: str, tmp_path: Path) -> None:
    """Other refusals and their messages are tested in this process."""
    name, *arguments = command.split()
    done = run_script(name, *arguments, cwd=tmp_path)
    assert message in refused(done)
    assert (len(done.stderr.splitlines()), done.stdout) == (2, "")


@pytest.mark.parametrize("name", ["evaluate.py", "export.py", "generate.py", "serve.py"])
def test_a_folder_that_is_no_run_is_refused(name: str, tmp_path: Path) -> None:
    assert "`nowhere` is not a complete run" in refused(run_in_process(name, "nowhere", cwd=tmp_path))


def test_a_quiet_training_shows_only_its_result(
    workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    given: list[str | Path] = [tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["llama"]]
    given += ["--max_steps", "2", "--behavioral_items", "0", "--exam", "false"]
    done = run_script("train.py", *given, "--quiet", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "trained on" in done.stdout
    assert not [line for line in done.stderr.splitlines() if "step" in line or "watched" in line or "it/s" in line]

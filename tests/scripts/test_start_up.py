"""What needs no model loads no torch: each script in a process of its own says what it has loaded at its end."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.scripts import SCRIPTS, refused, run_in_process, script_environment

SAYS_WHAT_IT_LOADED = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("loaded:", *sorted({"torch", "transformers", "peft", "accelerate"} & set(sys.modules)))
"""
QUICKSTART = ROOT / "recipes" / "quickstart.yaml"


def run_light(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script to its end and assert that it has loaded no model library."""
    done = subprocess.run(
        [sys.executable, "-c", SAYS_WHAT_IT_LOADED, str(SCRIPTS / name), *map(str, arguments)],
        cwd=cwd,
        env=script_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    shown, _, loaded = done.stdout.rstrip("\n").rpartition("loaded:")
    assert loaded == "", done.stdout + done.stderr
    return subprocess.CompletedProcess(done.args, done.returncode, shown, done.stderr)


def test_mining_from_the_cache_loads_no_torch_and_prints_the_same(
    workplace: Path, project: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    given = (tiny_recipe, "--repo", project, "--model_name_or_path", tiny_models["starcoder2"])
    first = run_in_process("mine.py", *given, cwd=workplace)
    again = run_light("mine.py", *given, cwd=workplace)
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert "Tokens of samples" in again.stdout
    explained = run_light("mine.py", *given, "--explain", "src/steps.py", cwd=workplace)
    assert explained.returncode == 0, explained.stderr


@pytest.mark.parametrize("what", [(), ("--files",)], ids=["commits", "files"])
def test_searching_by_words_alone_loads_no_torch(what: tuple[str, ...], project: Path, workplace: Path) -> None:
    question: tuple[str | Path, ...] = ("the value of step 12", *what, "--embedding_model", "none", "--all_hits")
    done = run_light("search.py", QUICKSTART, *question, "--repo", project, cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "src/steps.py" in done.stdout


def test_the_report_is_written_without_torch(run: Path, workplace: Path) -> None:
    done = run_light("report.py", run, cwd=workplace)
    assert (done.returncode, done.stdout.strip()) == (0, str(run / "report.html")), done.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("evaluate.py nowhere", "is not a complete run"),
        ("export.py nowhere", "is not a complete run"),
        ("export.py nowhere --push_to_hub me/mine", "is not a complete run"),
        ("generate.py nowhere --prompt x", "is not a complete run"),
        ("review.py nowhere", "is not a complete run"),
        ("plan.py {recipe} --gpu_memory much", "`--gpu_memory` is no size"),
        ("plan.py {recipe} --model_name_or_path ./nowhere", "the model directory `./nowhere` does not exist"),
        ("plan.py {recipe} --load_in_4bit --load_in_8bit", "`load_in_4bit` and `load_in_8bit` are both true"),
        ("mine.py {recipe} --load_in_4bit --load_in_8bit", "`load_in_4bit` and `load_in_8bit` are both true"),
    ],
)
def test_an_invalid_command_is_refused_without_torch(command: str, message: str, tmp_path: Path) -> None:
    name, *arguments = command.format(recipe=QUICKSTART).split()
    assert message in refused(run_light(name, *arguments, cwd=tmp_path))

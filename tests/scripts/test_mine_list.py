"""`mine.py --repos`: good and broken repositories in one call, again, after new commits, after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import GitRepository, function
from tests.support.scripts import SCRIPTS, Done, refused, run_in_process, script_environment
from tests.support.torture import Torture, write

ONE_BATCH = 30_000  # bytes of an Arrow file that hold the schema and a batch of rows


@pytest.fixture
def mine(tmp_path: Path, tiny_models: dict[str, Path], tiny_recipe: Path) -> Callable[..., list[str | Path]]:
    """The arguments that mine a list of repositories."""

    def arguments(*repositories: Path | str, corpora: str = "corpora") -> list[str | Path]:
        (tmp_path / "list.txt").write_text("\n".join(map(str, repositories)))
        model = ("--model_name_or_path", tiny_models["llama"])
        return [tiny_recipe, "--repos", "list.txt", "--workers", "2", *model, "--corpus_dir", corpora]

    return arguments


def outcomes(done: Done) -> dict[str, str]:
    """The outcome of each repository in the printed table."""
    table = done.stdout.partition("Outcome\n")[2].partition("Failed:")[0]
    return {line.split()[0]: line.split()[-1] for line in table.splitlines()}


def arrow_files(corpora: Path) -> dict[str, bytes]:
    """The content of every Arrow file of complete datasets."""
    found = {str(path.relative_to(corpora)): path.read_bytes() for path in corpora.glob("**/*.arrow")}
    assert not [path for path in found if ".building-" in path]
    return found


def history(path: Path, commits: int) -> Path:
    """A bare repository of that many commits, each of which adds a function."""
    made = Torture()
    for number in range(commits):
        made.commit(b"Add step %d\n" % number, [write(b"src/step_%d.py" % number, function(number).encode())])
    return made.build(path)


def belongs_to(group: int, process: psutil.Process) -> bool:
    """Whether a process runs in a group."""
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_broken_repositories_are_named_and_the_same_command_does_only_what_is_new(
    mine: Callable[..., list[str | Path]], tmp_path: Path, project: Path
) -> None:
    shutil.copytree(project, tmp_path / "moving")
    moving = GitRepository(tmp_path / "moving", commits=50)
    GitRepository(tmp_path / "empty")
    history(tmp_path / "corrupt.git", 120)
    (pack,) = (tmp_path / "corrupt.git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[: pack.stat().st_size // 2])
    listed = mine(project, "moving", "empty", "corrupt.git", f"file://{tmp_path}/gone")

    first = run_in_process("mine.py", *listed, cwd=tmp_path)
    assert "3 of 5 repositories failed: empty, corrupt, gone" in refused(first)
    assert outcomes(first) == dict.fromkeys(("project", "moving"), "built") | dict.fromkeys(
        ("empty", "corrupt", "gone"), "failed"
    )
    assert "empty: `repo` " in first.stdout
    assert "has no commits on HEAD" in first.stdout
    assert "does not appear to be a git repository" in first.stdout
    assert "35 commits (1 merges)" in (tmp_path / "corpora" / "logs" / "project.log").read_text()
    outcome = json.loads((tmp_path / "corpora" / "logs" / "project.json").read_text())
    assert (outcome["source"], outcome["state"], outcome["commits"]) == (str(project), "built", 35)

    moving.commit("Add the last step", {"src/last.py": function(200)})
    history(tmp_path / "gone", 40)
    again = run_in_process("mine.py", *listed, cwd=tmp_path)
    assert outcomes(again) == {
        "project": "unchanged", "moving": "built", "empty": "failed", "corrupt": "failed", "gone": "built",
    }  # fmt: skip


def test_a_command_that_was_killed_while_it_wrote_ends_in_the_same_bytes(
    mine: Callable[..., list[str | Path]], tmp_path: Path
) -> None:
    """The signal reaches every process, as if the power went."""
    repositories = [history(tmp_path / "long.git", 200), history(tmp_path / "other.git", 80)]
    command = [sys.executable, str(SCRIPTS / "mine.py"), *map(str, mine(*repositories, corpora="killed"))]
    with subprocess.Popen(command, cwd=tmp_path, env=script_environment(), start_new_session=True) as running:
        written = "killed/long/.building-*/ready/data/*.arrow"
        while not any(path.stat().st_size > ONE_BATCH for path in tmp_path.glob(written)):
            assert running.poll() is None
            time.sleep(0.002)
        os.killpg(running.pid, signal.SIGKILL)
    assert not list(tmp_path.glob("killed/*/samples-*"))

    again = run_in_process("mine.py", *mine(*repositories, corpora="killed"), cwd=tmp_path)
    whole = run_in_process("mine.py", *mine(*repositories, corpora="whole"), cwd=tmp_path)
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr + whole.stderr
    files = arrow_files(tmp_path / "killed")
    assert {path.partition("/")[0] for path in files} == {"long", "other"}
    assert files == arrow_files(tmp_path / "whole")


@pytest.mark.slow
def test_ctrl_c_ends_every_process_and_keeps_what_was_finished(
    mine: Callable[..., list[str | Path]], tmp_path: Path, project: Path
) -> None:
    """The current folder may be a mined repository, so none of its modules is imported."""
    listed = mine(project, history(tmp_path / "long.git", 800))
    (tmp_path / "datasets.py").write_text("raise SystemExit('imported from the current folder')")
    command = [sys.executable, str(SCRIPTS / "mine.py"), *map(str, listed)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=script_environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        assert running.stderr is not None
        assert "[1/2] project: built" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        errors = running.stderr.read()
    ended = time.monotonic()
    assert running.returncode == 128 + signal.SIGINT
    assert errors == "interrupted: the same command again takes up where this left off\n"
    assert not list(tmp_path.glob("corpora/long/samples-*"))
    while group := [process.pid for process in psutil.process_iter() if belongs_to(running.pid, process)]:
        assert time.monotonic() < ended + 30, group
        time.sleep(0.01)
    assert outcomes(run_in_process("mine.py", *mine(project), cwd=tmp_path)) == {"project": "unchanged"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--repos missing.txt", "`--repos` missing.txt does not exist"),
        ("--repos list.txt --repo .", "`--repo` and `--repos` both name repositories"),
        ("--repos list.txt --repo=.", "`--repo` and `--repos` both name repositories"),
        ("--repos list.txt --explain a.py", "`--explain` asks about one repository"),
        ("--repos list.txt --probe", "`--probe` asks about one repository"),
        ("--repos list.txt --workers 0", "`--workers` must be at least 1"),
        ("--repos list.txt --executor slurm", "needs `--slurm_partition`"),
        ("--repos list.txt --slurm_time 1:00:00", "is for `--executor slurm`"),
        ("--workers 2", "`--workers` is for a list of repositories"),
        ("--repos list.txt --model_name_or_path nowhere", "`nowhere` is not in the local cache"),
    ],
)
def test_keys_that_make_no_sense_beside_a_list_are_refused(
    arguments: str, message: str, tmp_path: Path, tiny_models: dict[str, Path], tiny_recipe: Path
) -> None:
    (tmp_path / "list.txt").write_text("nowhere")
    given: list[str | Path] = ["--model_name_or_path", tiny_models["llama"], *arguments.split()]
    assert message in refused(run_in_process("mine.py", tiny_recipe, *given, cwd=tmp_path))
    assert not (tmp_path / "corpora" / "logs").exists()

"""The tasks of a list as datatrove's executors run them; a job of Slurm is submitted to a script in its place."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.many.cluster import run_on_ray, run_rank, submit_to_slurm
from tests.many.test_processes import refuse, succeed, task


def test_a_rank_runs_its_own_task_and_tells_the_executor_that_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    tasks = [task(tmp_path, "good", partial(succeed, "done")), task(tmp_path, "bad", refuse)]
    run_rank(tasks, f"{tmp_path}/elsewhere", None, 0, 2)
    assert "done in elsewhere" in (tmp_path / "good.log").read_text()
    with pytest.raises(RuntimeError, match="bad: failed: the key `x` cannot be"):
        run_rank(tasks, str(tmp_path), None, 1, 2)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datatrove", None)
    with pytest.raises(UserError, match="which is not installed"):
        run_on_ray([], 1, tmp_path)


def slurm(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs of Slurm's names on the path."""
    pytest.importorskip("datatrove", reason="pip install -e '.[cluster]'")
    folder.mkdir()
    for name, text in {"sbatch": answer, "scontrol": "echo here"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_what_is_submitted_to_slurm_runs_the_task_of_each_rank(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm(tmp_path / "bin", "echo Submitted batch job 7", monkeypatch)
    tasks = [task(tmp_path, "good", partial(succeed, "done")), task(tmp_path, "bad", refuse)]
    assert submit_to_slurm(tasks, 1, tmp_path / "slurm", "main", None) == "7"
    script = (tmp_path / "slurm" / "launch_script.slurm").read_text()
    for line in ("--partition=main", "--time=24:00:00", "--array=0-1%1", "--kill-on-invalid-dep=yes"):
        assert f"#SBATCH {line}\n" in script
    (command,) = (line.split("-n 1 ")[1] for line in script.splitlines() if line.startswith("srun"))
    codes = []
    for rank in ("0", "1"):
        environment = os.environ | {"SLURM_ARRAY_TASK_ID": rank, "SLURM_NODELIST": "here"}
        folder = Path(sys.executable).parent
        done = subprocess.run(f"{folder}/{command}", shell=True, env=environment, capture_output=True, check=False)
        codes.append(done.returncode)
    assert codes == [0, 1]
    assert "done in" in (tmp_path / "good.log").read_text()
    assert '"state": "failed"' in (tmp_path / "bad.json").read_text()


def test_a_job_that_slurm_refuses_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm(tmp_path / "bin", "exit 1", monkeypatch)
    with pytest.raises(UserError, match="Slurm refused the job"):
        submit_to_slurm([task(tmp_path, "good", refuse)], 1, tmp_path / "slurm", "main", "1:00:00")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="`sbatch` cannot be started"):
        submit_to_slurm([task(tmp_path, "good", refuse)], 1, tmp_path / "slurm", "main", "1:00:00")


@pytest.mark.slow
def test_ray_runs_every_task_and_a_failed_one_stops_no_other(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install -e '.[cluster]'")
    works: dict[str, Callable[[], None]] = {
        "bad": refuse,
        "one": partial(succeed, "done"),
        "two": partial(succeed, "done"),
    }
    tasks = [task(tmp_path, name, work) for name, work in works.items()]
    done = run_on_ray(tasks, 2, tmp_path / "ray")
    assert [(outcome.name, outcome.state) for outcome in done] == [
        ("bad", "failed"),
        ("one", "built"),
        ("two", "built"),
    ]

"""Runs the tasks of a list on a cluster, by datatrove's executors for Slurm and for Ray.

A rank of the executor is a repository. Its machine runs the task as this one would, in a process of its own, so all
machines need this folder, the corpus directory and the repositories at the same paths.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from blocklm.errors import UserError
from blocklm.many.outcome import FAILED, Outcome
from blocklm.many.processes import Task, run_tasks

SLURM_TIME = "24:00:00"


def run_on_ray(tasks: Sequence[Task], workers: int, folder: Path) -> list[Outcome]:
    """Run all tasks on the Ray cluster that `RAY_ADDRESS` names or that runs here, else on one that is started here.

    Args:
        tasks: the tasks.
        workers: most tasks at a time; -1 for as many as the cluster has cores for.
        folder: folder for the executor's logs.

    Returns:
        The outcomes, in the order of the tasks.

    Raises:
        UserError: a package is missing, or the cluster cannot be reached.
    """
    executor, ray = _executor("RayPipelineExecutor"), _import("ray")
    for task in tasks:
        task.outcome.unlink(missing_ok=True)
    try:
        ray.init(log_to_driver=False, logging_level="warning", include_dashboard=False)
    except (ConnectionError, RuntimeError) as error:
        raise UserError(f"Ray cannot be reached: {error}", "unset RAY_ADDRESS to start Ray on this machine") from None
    try:
        executor(
            [_step(tasks)], tasks=len(tasks), workers=workers, logging_dir=str(folder.absolute()), skip_completed=False
        ).run()
    finally:
        ray.shutdown()
    return [_read_outcome(task, folder) for task in tasks]


def submit_to_slurm(tasks: Sequence[Task], workers: int, folder: Path, partition: str, time: str | None) -> str:
    """Submit all tasks as a job array.

    Args:
        tasks: the tasks.
        workers: most tasks at a time; -1 for as many as the cluster has cores for.
        folder: folder for the executor's logs and the script that was submitted.
        partition: Slurm's partition.
        time: limit of each task as Slurm writes it; None for a day.

    Returns:
        The id of the job.

    Raises:
        UserError: a package or Slurm is missing, or Slurm refuses the job.
    """
    executor = _executor("SlurmPipelineExecutor")(
        [_step(tasks)],
        tasks=len(tasks),
        workers=workers,
        time=time or SLURM_TIME,
        partition=partition,
        qos=None,  # the default of the user's account
        job_name="blocklm-mine",
        sbatch_args={"kill-on-invalid-dep": "yes"},  # datatrove's last job waits for all, or for ever if one failed
        env_command=f"export PATH={Path(sys.executable).parent}:$PATH",
        logging_dir=str(folder.absolute()),
        skip_completed=False,
    )
    try:
        executor.run()
    except FileNotFoundError as error:
        raise UserError(f"`{error.filename}` cannot be started", "submit from a machine that has Slurm") from None
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"Slurm refused the job: {' '.join(error.cmd)} ended with code {error.returncode}",
            f"its message is above, the script is {folder / 'launch_script.slurm'}",
        ) from None
    return str(executor.job_id)


def run_rank(tasks: Sequence[Task], folder: str, data: Any, rank: int, world_size: int) -> None:
    """Run the task of a rank: a step of datatrove's pipeline.

    Args:
        tasks: the tasks of all ranks.
        folder: folder in which the command was given.
        data: nothing; other steps pass documents.
        rank: index of the task.
        world_size: number of tasks.

    Raises:
        RuntimeError: the task failed, which the executor records.
    """
    os.chdir(folder)
    (outcome,) = run_tasks([tasks[rank]], 1, tasks[rank].source.name)
    if outcome.state == FAILED:
        raise RuntimeError(outcome.line())


def _step(tasks: Sequence[Task]) -> "partial[None]":
    return partial(run_rank, tuple(tasks), str(Path.cwd()))


def _read_outcome(task: Task, folder: Path) -> Outcome:
    try:
        return Outcome(**json.loads(task.outcome.read_text(encoding="utf-8")))
    except FileNotFoundError:
        why = f"its machine ended without an outcome: see {folder / 'logs'}"
        return Outcome(task.source.name, task.source.location, str(task.log), FAILED, 0, reason=why)


def _executor(name: str) -> Any:
    """A class of datatrove's, which from now on is silent in this process: its errors are in the outcomes."""
    executors = _import("datatrove.executor")
    _import("loguru").logger.disable("datatrove")
    return getattr(executors, name)


def _import(name: str) -> Any:
    """Import a module of the extra `cluster`; raises `UserError` if it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"`--executor` needs the package {error.name}, which is not installed", "pip install -e '.[cluster]'"
        ) from None

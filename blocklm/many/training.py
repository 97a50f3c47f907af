"""Trains an adapter for each repository of a list, one run after the other, each in a process of its own.

The loaded base is not shared: a trainer changes it (adapters, casts, quantised weights, hooks), so that a run would
depend on those before it, and a run that is out of memory would end all. Loading takes seconds of a run of minutes.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from blocklm.config.recipe import Recipe
from blocklm.errors import UserError
from blocklm.many.processes import Task
from blocklm.many.sources import Source
from blocklm.runs.manifest import read_manifest

LOG, OUTCOME = "train.log", "outcome.json"


def training_tasks(command: Sequence[str], recipe: Recipe, sources: Sequence[Source]) -> list[Task]:
    """One task for each repository, whose run directory is `output_dir/NAME`.

    Args:
        command: program and arguments that train on one repository, up to the recipe's keys.
        recipe: the recipe.
        sources: the repositories.

    Raises:
        UserError: a key of the recipe is for one repository, or a launcher has started several processes.
    """
    if recipe.run.continue_from is not None:
        raise UserError("`continue_from` names one run, and `--repos` makes several", "top up each run with `--repo`")
    if recipe.training["push_to_hub"]:
        raise UserError(
            "`push_to_hub` names one model, and `--repos` makes several", "push each with `scripts/export.py RUN_DIR`"
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "`--repos` trains in one process after the other, and a launcher has started several",
            "`python scripts/train.py` without it; for each GPU a list of its own, with CUDA_VISIBLE_DEVICES",
        )
    tasks = []
    for source in sources:
        run = recipe.output_dir / source.name
        words = (*command, "--repo", source.location, "--output_dir", str(run))
        result = partial(_result, run, _finished_at(run))
        tasks.append(Task(source, partial(_become, words), result, run / LOG, run / OUTCOME))
    return tasks


def _become(command: tuple[str, ...]) -> None:
    """Replace this process by the command: it then is what a user would have started."""
    os.execv(command[0], command)


def _finished_at(run_dir: Path) -> str | None:
    """When the run was completed; None if it was not, or if its manifest is damaged, about which its task complains."""
    try:
        manifest = read_manifest(run_dir) or {}
    except UserError:
        return None
    return manifest["finished_at"] if manifest.get("status") == "complete" else None


def _result(run_dir: Path, finished_before: str | None) -> Mapping[str, Any]:
    """What a run that ended well did, by its manifest."""
    manifest = read_manifest(run_dir) or {}
    return {
        "state": "unchanged" if manifest["finished_at"] == finished_before else "trained",
        "commits": manifest["repository"]["commits"],
        "samples": manifest["corpus"]["splits"]["train"]["used"],
    }

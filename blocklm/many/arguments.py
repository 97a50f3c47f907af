"""The flags for a list of repositories, beside the keys of a recipe."""

from argparse import Namespace, _ArgumentGroup
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blocklm.errors import UserError
from blocklm.many.sources import Source

EXECUTORS = ("local", "slurm", "ray")
SLURM_FLAGS = ("slurm_partition", "slurm_time")
WORKER_FLAGS = ("workers", "executor", *SLURM_FLAGS)
LIST_FLAGS = ("joint", *WORKER_FLAGS)


def add_list_flag(flags: _ArgumentGroup, what: str) -> None:
    """Add `--repos`."""
    flags.add_argument(
        "--repos", type=Path, metavar="FILE", help=f"{what}: a path or URL on each line, # for comments"
    )
    flags.add_argument(
        "--joint",
        action="store_true",
        help="make one corpus of --repos, each repository split by its own time (keys: repo, split_each, "
        "repository_weights)",
    )


def add_worker_flags(flags: _ArgumentGroup) -> None:
    """Add the flags that say where the tasks of a list run; they are None if they are not given."""
    flags.add_argument("--workers", type=int, help="tasks of --repos at a time (default: one for each core)")
    flags.add_argument(
        "--executor",
        choices=EXECUTORS,
        help="where the tasks of --repos run: processes here (default), or datatrove's executor for Slurm or Ray",
    )
    flags.add_argument("--slurm_partition", metavar="NAME", help="partition of --executor slurm")
    flags.add_argument("--slurm_time", metavar="HH:MM:SS", help="limit of a task of --executor slurm (24:00:00)")


def joint_keys(sources: Sequence[Source]) -> list[str]:
    """The keys that make one corpus of all repositories of a list, as command-line arguments."""
    return ["--repo", *(source.location for source in sources), "--split_each", "true"]


def check_list_flags(flags: Namespace, keys: Sequence[str], alone: Sequence[str] = ()) -> None:
    """Refuse flags and keys that contradict a list of repositories, or that need one.

    Args:
        flags: the parsed flags, `repos` among them.
        keys: the recipe and its keys, as command-line arguments.
        alone: names of the flags that ask something of one repository; default: none.

    Raises:
        UserError: such a flag was given.
    """
    given = {name: value for name, value in vars(flags).items() if value is not None and value is not False}
    if "repos" not in given:
        _refuse(given, LIST_FLAGS, "is for a list of repositories", "give one with `--repos FILE`")
        return
    if any(word.partition("=")[0] == "--repo" for word in keys):
        raise UserError(
            "`--repo` and `--repos` both name repositories",
            "give `--repos` for each repository by itself, or `--repo` for one, or for several as one history",
        )
    if "joint" in given:
        _refuse(given, WORKER_FLAGS, "is for tasks, and `--joint` makes one corpus", "run it without `--joint` first")
    _refuse(given, alone, "asks about one repository", "name it with `--repo`, and leave `--repos` out")
    if given.get("workers", 1) < 1:
        raise UserError(f"`--workers` must be at least 1, got {flags.workers}", "leave it out for one for each core")
    if given.get("executor") != "slurm":
        _refuse(given, SLURM_FLAGS, "is for `--executor slurm`", "give both, or neither")
    elif "slurm_partition" not in given:
        raise UserError("`--executor slurm` needs `--slurm_partition`", "`sinfo` lists the partitions")


def _refuse(given: Mapping[str, Any], names: Sequence[str], why: str, remedy: str) -> None:
    for name in names:
        if name in given:
            raise UserError(f"`--{name}` {why}", remedy)

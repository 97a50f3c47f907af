"""Run the main job: mine the repository (or reuse the cache), train an adapter on its past, test it on later commits.

    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/starcoder2.yaml --repo ~/src/project
    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/gpt2.yaml --learning_rate 1e-4
    accelerate launch --multi_gpu --num_processes 2 scripts/train.py recipes/phi2.yaml
    python scripts/train.py recipes/quickstart.yaml --repos list.txt --output_dir runs/all   # a run for each
    python scripts/train.py recipes/quickstart.yaml --repos list.txt --joint --output_dir runs/joint   # one for all

Run the same command again to resume an interrupted run. Any recipe key can be given on the command line. With `--quiet`
only the result, warnings and errors are shown.
"""

import sys
from pathlib import Path

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.console import CommandLine, console
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.git.repository import Repository, joint_head, open_repositories
from blocklm.interrupts import Interrupts
from blocklm.many.arguments import add_list_flag, check_list_flags, joint_keys
from blocklm.many.outcome import outcome_table, raise_failures
from blocklm.many.sources import read_sources
from blocklm.runs.directory import claim_run_directory
from blocklm.runs.lock import sole_run
from blocklm.runs.manifest import read_manifest


def command_line() -> CommandLine:
    """Build the command line; all recipe keys may be given too."""
    parser = CommandLine(__doc__, beside_recipe=True)
    add_list_flag(
        parser.add_argument_group("beside the recipe's keys"), "train on each repository of a list by itself"
    )
    return parser


def main(interrupts: Interrupts) -> None:
    """Parse the recipe and check what can be checked, before the libraries are loaded."""
    parser = command_line()
    flags, keys = parser.parse_known_args()
    check_list_flags(flags, keys)
    if flags.joint:
        keys += joint_keys(read_sources(flags.repos))
    recipe = parse_recipe(keys, parser.format_help())
    if flags.repos is not None and not flags.joint:
        train_on_list(recipe, keys, flags.repos)
        return
    if recipe.training["push_to_hub"]:
        # Imported only now: the hub's client imports tqdm, which at its first import reads what `--quiet` set.
        from blocklm.release.hub import check_reachable

        check_reachable(recipe.training["hub_model_id"])
    repositories = open_repositories(recipe.mining)
    with sole_run(recipe.output_dir):
        run(recipe, repositories, interrupts)


def train_on_list(recipe: Recipe, keys: list[str], path: Path) -> None:
    """Train on each repository of a list, one after the other, and print what became of each."""
    from blocklm.many.processes import run_tasks  # only now, as above: they import tqdm
    from blocklm.many.training import training_tasks

    command = [sys.executable, str(Path(__file__).absolute()), *keys]
    outcomes = run_tasks(training_tasks(command, recipe, read_sources(path)), 1, "training")
    print(outcome_table(outcomes))
    raise_failures(outcomes)


def run(recipe: Recipe, repositories: list[Repository], interrupts: Interrupts) -> None:
    """Train and run the exam, or show the summary of a complete run; then push it if the recipe asks for that."""
    if summary := claim_run_directory(recipe, joint_head(repositories)):
        print(f"already complete: {recipe.output_dir}\n{summary}")
    else:
        if recipe.exam.exam and recipe.check.check_command is not None:
            check_isolation(recipe.check.binds)
        # Imported only for a run that can begin: these load torch, which takes seven seconds.
        from blocklm.pipeline import run_job

        summary = run_job(recipe, repositories, interrupts)
        if summary is not None:
            print(summary)
    if (
        summary is not None
        and recipe.training["push_to_hub"]
        and not (read_manifest(recipe.output_dir) or {}).get("published")
    ):
        from blocklm.release.publish import push_run
        from blocklm.runs.completed import open_run

        repo_id, private = recipe.training["hub_model_id"], bool(recipe.training["hub_private_repo"])
        print(push_run(open_run(recipe.output_dir), repo_id, private))


if __name__ == "__main__":
    with console() as interrupts:
        main(interrupts)

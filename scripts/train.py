"""Run the main job: mine the repository (or reuse the cache), train an adapter on its past, test it on later commits.

    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/starcoder2.yaml --repo ~/src/project
    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/gpt2.yaml --learning_rate 1e-4
    accelerate launch --multi_gpu --num_processes 2 scripts/train.py recipes/phi2.yaml

Run the same command again to resume an interrupted run. Any recipe key can be given on the command line. With `--quiet`
only the result, warnings and errors are shown.
"""

import sys

from blocklm.config.recipe import Recipe, parse_recipe
from blocklm.console import console
from blocklm.evaluation.execution.sandbox import check_isolation
from blocklm.git.repository import Repository, joint_head, open_repositories
from blocklm.interrupts import Interrupts
from blocklm.runs.directory import claim_run_directory
from blocklm.runs.lock import sole_run
from blocklm.runs.manifest import read_manifest


def main(interrupts: Interrupts) -> None:
    """Parse the recipe and check what can be checked, before the libraries are loaded."""
    recipe = parse_recipe(sys.argv[1:], __doc__)
    if recipe.training["push_to_hub"]:
        # Imported only now: the hub's client imports tqdm, which at its first import reads what `--quiet` set.
        from blocklm.release.hub import check_reachable

        check_reachable(recipe.training["hub_model_id"])
    repositories = open_repositories(recipe.mining)
    with sole_run(recipe.output_dir):
        run(recipe, repositories, interrupts)


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

"""The main job: mine the repository (or reuse the cache), train an adapter on its past, examine it on later commits.

    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/starcoder2.yaml --repo ~/src/project
    accelerate launch --config_file accelerate_config.yaml scripts/train.py recipes/gpt2.yaml --learning_rate 1e-4
    accelerate launch --cpu --num_processes 2 scripts/train.py recipes/quickstart.yaml

The same command again resumes an interrupted run. Any key of a recipe can be given on the command line.
"""

import logging
import sys
from pathlib import Path

from blocklm.commits import Repository, open_repository
from blocklm.errors import user_errors
from blocklm.interrupts import Interrupted, Interrupts
from blocklm.recipe import Recipe, parse_recipe
from blocklm.report import finished_run


def main() -> None:
    """Parse, refuse what cannot work, and only then load the stack."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    interrupts = Interrupts()
    interrupts.install()
    recipe = parse_recipe(sys.argv[1:], __doc__)
    repository = open_repository(recipe.mining.repo)
    recipe.claim_output_dir()
    if finished := finished_run(recipe.output_dir, repository.head):
        print(f"already complete: {recipe.output_dir}\n{finished}")
        return
    run(recipe, repository, interrupts)


def run(recipe: Recipe, repository: Repository, interrupts: Interrupts) -> None:
    """Load the stack and go through the phases."""
    from blocklm.job import Job

    summary = Job(recipe, repository, interrupts).run()
    if summary:
        print(summary)


if __name__ == "__main__":
    with user_errors():
        try:
            main()
        except Interrupted as interrupted:
            print(f"interrupted: run the same command again to resume ({Path(sys.argv[0]).name})", file=sys.stderr)
            raise SystemExit(interrupted.exit_code) from None

"""The exam on a run that is complete: base against tuned model on the test commits.

    python scripts/evaluate.py runs/starcoder2
    python scripts/evaluate.py runs/starcoder2 --exam_items 1000
"""

import logging
import sys
from pathlib import Path

from blocklm.commits import open_repository
from blocklm.errors import UserError, user_errors
from blocklm.recipe import parse_recipe


def main() -> None:
    """Load the run, sit the exam again, print the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: evaluate.py RUN_DIR [--key value ...]\n\n{__doc__}")
        return
    run_dir = Path(arguments[0])
    if not (run_dir / "recipe.yaml").is_file():
        raise UserError(f"`{run_dir}` is not a run directory", "name the `output_dir` of a run")
    recipe = parse_recipe([str(run_dir / "recipe.yaml"), *arguments[1:], "--output_dir", str(run_dir)])
    repository = open_repository(recipe.mining.repo)

    from blocklm.evaluation import evaluate

    print(evaluate(recipe, repository))


if __name__ == "__main__":
    with user_errors():
        main()

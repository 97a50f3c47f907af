"""The exam on a run that is complete: base against tuned model on the test commits.

python scripts/evaluate.py runs/starcoder2
python scripts/evaluate.py runs/starcoder2 --exam_items 1000
"""

import sys
from pathlib import Path

from blocklm.commits import open_repository
from blocklm.console import console
from blocklm.corpus import load_changes, load_samples
from blocklm.errors import UserError
from blocklm.hygiene import Limits
from blocklm.recipe import DEFAULT_MAX_LENGTH, parse_recipe
from blocklm.report import exam_table, write_json


def main() -> None:
    """Load the run, sit the exam again, print the table."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: evaluate.py RUN_DIR [--key value ...]\n\n{__doc__}")
        return
    run_dir = Path(arguments[0])
    if not (run_dir / "recipe.yaml").is_file():
        raise UserError(f"`{run_dir}` is not a run directory", "name the `output_dir` of a run")
    recipe = parse_recipe([str(run_dir / "recipe.yaml"), *arguments[1:]])
    repository = open_repository(recipe.mining.repo)
    changes = load_changes(repository, Limits(recipe.mining.max_changed_lines), Path(recipe.mining.corpus_dir))

    import torch  # the rest of the stack only once the corpus is there
    from accelerate import PartialState
    from trl import ModelConfig

    from blocklm.exam import run_exam
    from blocklm.model import base_arm, load_base, load_tokenizer, load_tuned, special_tokens
    from blocklm.precision import choose_precision

    PartialState(cpu=not torch.cuda.is_available())
    config, trust = ModelConfig(**recipe.model), bool(recipe.training.get("trust_remote_code"))
    precision = choose_precision(recipe.training.get("fp16"), recipe.training.get("bf16"))
    tokenizer = load_tokenizer(config, trust)
    corpus = load_samples(
        changes, special_tokens(tokenizer), recipe.mining.test_commits, Path(recipe.mining.corpus_dir)
    )
    tuned = load_tuned(config, precision, run_dir, trust)
    base = base_arm(tuned, lambda: load_base(config, precision, trust))
    length = recipe.training.get("max_length") or DEFAULT_MAX_LENGTH
    result = run_exam(corpus.splits["test"], tokenizer, tuned, base, precision.dtype, length, recipe.exam)
    write_json(run_dir / "exam.json", result)
    print(exam_table(result))


if __name__ == "__main__":
    with console():
        main()

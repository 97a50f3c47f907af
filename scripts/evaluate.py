"""The exam on a run that is complete, once more: base against tuned model on the test commits, into exam-again.json.

python scripts/evaluate.py runs/starcoder2
python scripts/evaluate.py runs/starcoder2 --exam_items 1000
"""

import sys
from dataclasses import replace
from pathlib import Path

from blocklm.console import console
from blocklm.corpus import build_corpus
from blocklm.errors import UserError
from blocklm.families import FAMILY
from blocklm.mining import mine
from blocklm.recipe import parse_recipe
from blocklm.report import exam_table, read_manifest, write_json
from blocklm.repository import open_repositories
from blocklm.topup import learned_commits, unlearned

MAY_CHANGE = ("--exam_items", "--repo", "--corpus_dir")


def main() -> None:
    """Load the run, sit the exam again, print the table."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: evaluate.py RUN_DIR [--key value ...]\n\n{__doc__}")
        return
    run_dir = Path(arguments[0])
    manifest = read_manifest(run_dir)
    if manifest is None or manifest["status"] != "complete" or not manifest["plan"]:
        remedy = "name the `output_dir` of a run that went to its end with this version"
        raise UserError(f"`{run_dir}` is not a complete run", remedy)
    if foreign := [word for word in arguments[1:] if word.startswith("--") and not word.startswith(MAY_CHANGE)]:
        raise UserError(
            f"`{foreign[0]}` would change what was trained on", f"only {', '.join(MAY_CHANGE)} may be given"
        )
    recipe = parse_recipe([str(run_dir / "recipe.yaml"), *arguments[1:]])
    # The head that was split for training: on a later one, commits that were trained on would not be told apart.
    heads = [source["head"] for source in manifest["repository"]["sources"]]
    opened = open_repositories(recipe.mining)
    repositories = [replace(there, head=head) for there, head in zip(opened, heads, strict=True)]
    changes = mine(repositories, recipe.mining)

    import torch  # the rest of the stack only once the corpus is there
    from accelerate import PartialState

    from blocklm.exam import run_exam
    from blocklm.model import base_arm, load_base, load_tokenizer, load_tuned, model_config, special_tokens
    from blocklm.precision import choose_precision

    PartialState(cpu=not torch.cuda.is_available())
    config, trust = model_config(recipe.model), bool(recipe.training.get("trust_remote_code"))
    precision = choose_precision(recipe.training.get("fp16"), recipe.training.get("bf16"))
    tokenizer = load_tokenizer(config, trust)
    prompts = {view: FAMILY[name] for view, name in manifest["corpus"]["prompts"].items()}
    corpus = build_corpus(recipe, repositories, changes, prompts, special_tokens(tokenizer))
    tuned = load_tuned(config, precision, run_dir, trust)
    base = base_arm(tuned, lambda: load_base(config, precision, trust))
    test, length = corpus.splits["test"], manifest["plan"]["max_length"]
    if recipe.run.continue_from is not None:
        test = unlearned(test, learned_commits(run_dir))
    result = run_exam(test, recipe.exam_view, tokenizer, tuned, base, precision.dtype, length, recipe.exam)
    write_json(run_dir / "exam-again.json", result)
    print(exam_table(result))


if __name__ == "__main__":
    with console():
        main()

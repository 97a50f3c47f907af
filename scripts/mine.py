"""Build only the corpus and show it: the repository, the funnel with the meaning of each rule, the splits, the path.

python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project
python scripts/mine.py recipes/starcoder2.yaml --max_changed_lines 3000
"""

import json
import sys
from pathlib import Path

from blocklm.commits import open_repository
from blocklm.console import console
from blocklm.corpus import load_changes, load_samples
from blocklm.hygiene import WHY, Limits
from blocklm.recipe import parse_recipe


def main() -> None:
    """Mine, render for the recipe's model, print."""
    recipe = parse_recipe(sys.argv[1:], __doc__)
    repository = open_repository(recipe.mining.repo)
    corpus_dir = Path(recipe.mining.corpus_dir)
    changes = load_changes(repository, Limits(recipe.mining.max_changed_lines), corpus_dir)
    print(json.dumps(changes.report["repository"], indent=2, ensure_ascii=False))
    for entry in changes.report["funnel"]:
        rule, count = entry["rule"], entry.get("dropped", entry.get("kept"))
        print(f"{count:8d}  {rule:18s} {WHY.get(rule, 'changes to learn from')}")

    from blocklm.model import load_tokenizer, model_config, special_tokens  # heavy: only the tokenizer needs it

    tokenizer = load_tokenizer(model_config(recipe.model), bool(recipe.training.get("trust_remote_code")))
    corpus = load_samples(changes, special_tokens(tokenizer), recipe.mining.test_commits, corpus_dir)
    for name, split in corpus.report["splits"].items():
        span = f"{split['from'][:10]} to {split['to'][:10]}"
        print(f"{split['samples']:8d}  {name:18s} samples of {split['commits']} commits, {span}")
    print(corpus_dir / repository.name)


if __name__ == "__main__":
    with console():
        main()

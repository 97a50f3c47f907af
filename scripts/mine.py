"""Build only the corpus and show it: the repository and what it is good for, the funnel, the splits, the path.

python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --since 2024-01-01 --paths 'crates/**' --exclude '*.toml'
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/server https://github.com/example/client
"""

import sys
from pathlib import Path

from blocklm.console import console
from blocklm.corpus import load_samples
from blocklm.hygiene import WHY
from blocklm.mining import mine
from blocklm.recipe import parse_recipe
from blocklm.report import repository_table
from blocklm.repository import open_repositories


def main() -> None:
    """Mine, render for the recipe's model, print."""
    recipe = parse_recipe(sys.argv[1:], __doc__)
    changes = mine(open_repositories(recipe.mining), recipe.mining)
    print(repository_table(changes.report["repository"]))
    for entry in changes.report["funnel"]:
        rule, count = entry["rule"], entry.get("dropped", entry.get("kept"))
        print(f"{count:8d}  {rule:18s} {WHY.get(rule, 'changes to learn from')}")

    from blocklm.model import load_tokenizer, model_config, special_tokens  # heavy: only the tokenizer needs it

    tokenizer = load_tokenizer(model_config(recipe.model), bool(recipe.training.get("trust_remote_code")))
    corpus_dir = Path(recipe.mining.corpus_dir)
    corpus = load_samples(changes, special_tokens(tokenizer), recipe.mining.test_commits, corpus_dir)
    for name, split in corpus.report["splits"].items():
        span = f"{split['from'][:10]} to {split['to'][:10]}"
        print(f"{split['samples']:8d}  {name:18s} samples of {split['commits']} commits, {span}")
    print(corpus_dir / changes.report["repository"]["name"][:100])


if __name__ == "__main__":
    with console():
        main()

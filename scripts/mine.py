"""Build only the corpus and show it: the repository and what it is good for, the funnel, the splits, the path.

python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --since 2024-01-01 --paths 'crates/**' --exclude '*.toml'
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/server https://github.com/example/client
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --explain src/main.rs

--explain PATH_OR_SHA says of a file, a folder or a commit what was kept, what was dropped and by which rule, and which key
would change that.
"""

import sys
from pathlib import Path

from blocklm.console import console
from blocklm.corpus import load_samples
from blocklm.curation import curate
from blocklm.explain import explain, taken
from blocklm.mining import mine
from blocklm.recipe import parse_recipe
from blocklm.repository import open_repositories
from blocklm.tables import corpus_table, repository_table


def main() -> None:
    """Mine, curate, render for the recipe's model, print."""
    arguments, wanted = taken(sys.argv[1:], "--explain")
    recipe = parse_recipe(arguments, __doc__)
    changes = mine(open_repositories(recipe.mining), recipe.mining)
    curated = curate(changes, recipe.mining)
    if wanted is not None:
        print("\n".join(explain(changes, curated, wanted)))
        return
    print(repository_table(changes.report["repository"]))

    from blocklm.model import load_tokenizer, model_config, special_tokens  # heavy: only the tokenizer needs it

    tokenizer = load_tokenizer(model_config(recipe.model), bool(recipe.training.get("trust_remote_code")))
    corpus_dir = Path(recipe.mining.corpus_dir)
    corpus = load_samples(changes, curated, special_tokens(tokenizer), corpus_dir)
    print(corpus_table(corpus.report))
    print(corpus_dir / changes.report["repository"]["name"][:100])


if __name__ == "__main__":
    with console():
        main()

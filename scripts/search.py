"""Search the history for commits, or files, that are related to a question.

python scripts/search.py recipes/quickstart.yaml "where is a broken pipe handled" --repo ~/src/project
python scripts/search.py recipes/quickstart.yaml "retry with backoff" --search_history all --count 3  # newest too
python scripts/search.py recipes/quickstart.yaml "parse_header" --embedding_model none  # BM25 alone: no embeddings
python scripts/search.py recipes/quickstart.yaml "config loader" --files              # the files as they are now
python scripts/search.py recipes/quickstart.yaml "config loader" --json | jq .commit  # a JSON line each
python scripts/search.py recipes/quickstart.yaml "config loader" --qdrant_url http://127.0.0.1:6333  # on a server

The index is built at the first search and grows with the history. Weak matches are not shown.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from blocklm.config.recipe import parse_recipe
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.formatting import printable
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import limits_of, mine
from blocklm.retrieval.index import change_index, file_index, searched_commits
from blocklm.retrieval.search import fits, hit_lines


def command_line() -> CommandLine:
    """Build the command line; the question follows the recipe, and all recipe keys may be given too."""
    parser = CommandLine(__doc__, beside_recipe=True)
    flags = parser.add_argument_group("beside the recipe's keys and the question, which comes right after the recipe")
    flags.add_argument(
        "--count", type=_number, default=10, metavar="N", help="maximum number of results (default: 10)"
    )
    flags.add_argument("--files", action="store_true", help="search the current files instead of the commits")
    flags.add_argument("--json", action="store_true", help="print a JSON line for each result")
    flags.add_argument("--rebuild", action="store_true", help="rebuild the index")
    flags.add_argument("--all_hits", action="store_true", help="show weak matches too")
    return parser


def _number(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"cannot be {text!r}, only a number from 1")
    return int(text)


def main() -> None:
    """Mine and index new commits, search, print the results."""
    parser = command_line()
    flags, keys = parser.parse_known_args()
    question = keys.pop(1) if len(keys) > 1 and not keys[1].startswith("-") else None
    recipe = parse_recipe(keys, parser.format_help())
    if not (question and question.strip()):
        raise UserError(
            "there is no question", 'give it right after the recipe: `scripts/search.py RECIPE "question"`'
        )

    repositories, corpus_dir = open_repositories(recipe.mining), Path(recipe.mining.corpus_dir)
    changes = mine(repositories, recipe.mining)
    if flags.files:
        limits = limits_of(recipe.mining)
        index = file_index(repositories, changes, limits, recipe.retrieval, corpus_dir, flags.rebuild)
        within = None
    else:
        index = change_index(changes, recipe.retrieval, corpus_dir, flags.rebuild)
        within = searched_commits(changes, recipe)
    hits = index.search(question, flags.count, within)
    shown = [hit for hit in hits if flags.all_hits or fits(hit)]
    if flags.json:
        for hit in shown:
            print(json.dumps(asdict(hit) | {"day": hit.day.isoformat()}, ensure_ascii=False))
    elif shown:
        print(printable("\n".join(hit_lines(shown, question))))
    if not shown:
        more = f"; --all_hits shows the {len(hits)} nearest" if hits else ""
        print(f"nothing matches{more}", file=sys.stderr)
    if within is not None:
        print("the newest commits, kept for the exam, were not searched: --search_history all does", file=sys.stderr)


if __name__ == "__main__":
    with console():
        main()

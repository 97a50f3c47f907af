"""Build only the corpus, and print the repository's statistics, the funnel, the splits and the corpus' folder.

python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --since 2024-01-01 --paths 'crates/**'
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/server https://github.com/example/client
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --explain src/main.rs
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --probe
"""

from pathlib import Path

from blocklm.config.recipe import DEFAULT_BATCH_SIZE, DEFAULT_MAX_LENGTH, parse_recipe
from blocklm.console import CommandLine, console
from blocklm.corpus.build import build_corpus
from blocklm.corpus.curation import curate
from blocklm.corpus.explain import explain
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.corpus.rendering import held_out_hunks
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import mine
from blocklm.models.vocabulary import Vocabulary
from blocklm.runs.report.console_tables import corpus_table, length_table, probe_table, repository_table
from blocklm.training.length_report import length_report
from blocklm.training.token_counts import CountedSamples, count_tokens


def command_line() -> CommandLine:
    """Build the command line; all recipe keys may be given too."""
    parser = CommandLine(__doc__, beside_recipe=True)
    flags = parser.add_argument_group("beside the recipe's keys")
    flags.add_argument(
        "--explain",
        metavar="PATH_OR_SHA",
        help="show what was kept and dropped of a file, a folder or a commit, by which rules, and by which keys",
    )
    flags.add_argument(
        "--probe",
        action="store_true",
        help="measure which prompts suit the base model: bits per byte of later changes, by view and prompt family",
    )
    return parser


def main() -> None:
    """Mine, curate and render for the recipe's model, and print the tables."""
    parser = command_line()
    flags, keys = parser.parse_known_args()
    recipe = parse_recipe(keys, parser.format_help())
    repositories = open_repositories(recipe.mining)
    changes = mine(repositories, recipe.mining)
    if flags.explain is not None:
        print("\n".join(explain(changes, curate(changes, recipe.mining), flags.explain)))
        return
    print(repository_table(changes.report["repository"]))

    trust = bool(recipe.training.get("trust_remote_code", False))
    vocabulary = Vocabulary.of(recipe.model, trust, Path(recipe.mining.corpus_dir))
    special = frozenset(vocabulary.special_tokens)
    prompts = prompts_for(special, recipe.sampling.template)
    length = recipe.training.get("max_length") or DEFAULT_MAX_LENGTH
    if flags.probe:
        from blocklm.evaluation.template_probe import HUNKS, TemplateProbe, best_prompts  # heavy
        from blocklm.models.source import ModelSource

        source = ModelSource.from_keys(recipe.model, recipe.training)
        hunks = held_out_hunks(changes.dataset, curate(changes, recipe.mining).verdicts, HUNKS)
        places = PlaceReader(changes.dataset, repositories, changes.known, ModelPrompts({}, special))
        scores = TemplateProbe(source, source.tokenizer(), recipe.views, length, places).ask(hunks)
        print(probe_table(scores))
        prompts = best_prompts(prompts, scores, recipe.exam_views[0])
    corpus = build_corpus(recipe, repositories, changes, ModelPrompts(prompts, special))
    print(corpus_table(corpus.report))
    counted = CountedSamples(corpus.splits["train"], corpus.report["key"], corpus.places.fill, length)
    counts = count_tokens(counted, vocabulary, corpus.folder)
    batch = recipe.training.get("per_device_train_batch_size") or DEFAULT_BATCH_SIZE
    print(length_table(length_report(counts, length, batch), length, batch))
    print(corpus.folder)


if __name__ == "__main__":
    with console():
        main()

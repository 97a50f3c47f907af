"""Build only the corpus, and print the repository's statistics, the funnel, the splits and the corpus' folder.

python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --since 2024-01-01 --paths 'crates/**'
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/server https://github.com/example/client
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --explain src/main.rs
python scripts/mine.py recipes/quickstart.yaml --repo ~/src/project --probe
python scripts/mine.py recipes/quickstart.yaml --repos repositories.txt    # each repository of a list by itself
python scripts/mine.py recipes/quickstart.yaml --repos repositories.txt --joint    # and all as one corpus
"""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from blocklm.config.recipe import DEFAULT_MAX_LENGTH, Recipe, parse_recipe
from blocklm.console import CommandLine, console
from blocklm.corpus.curation import curate
from blocklm.corpus.explain import explain
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.corpus.rendering import held_out_hunks
from blocklm.git.repository import Repository, open_repositories
from blocklm.many.arguments import add_list_flag, add_worker_flags, check_list_flags, joint_keys
from blocklm.many.cluster import run_on_ray, submit_to_slurm
from blocklm.many.mining import LOGS, build_and_count, mining_tasks, vocabulary_of
from blocklm.many.outcome import outcome_table, raise_failures
from blocklm.many.processes import run_tasks, usable_cores
from blocklm.many.sources import read_sources
from blocklm.mining.changes import Changes
from blocklm.mining.mine import mine
from blocklm.runs.report.console_tables import probe_table, repository_table


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
    add_list_flag(flags, "mine each repository of a list by itself")
    add_worker_flags(flags)
    return parser


def main() -> None:
    """Mine one history or the repositories of a list, and print the tables."""
    parser = command_line()
    flags, keys = parser.parse_known_args()
    check_list_flags(flags, keys, alone=("explain", "probe"))
    if flags.joint:
        keys += joint_keys(read_sources(flags.repos))
    recipe = parse_recipe(keys, parser.format_help())
    if flags.repos is None or flags.joint:
        mine_history(flags, recipe)
    else:
        mine_list(flags, recipe)


def mine_list(flags: Namespace, recipe: Recipe) -> None:
    """Mine each repository of a list in a process of its own, here or on a cluster, and print what became of each."""
    tasks, logs = mining_tasks(recipe, read_sources(flags.repos)), Path(recipe.mining.corpus_dir) / LOGS
    if flags.executor == "slurm":
        job = submit_to_slurm(tasks, flags.workers or -1, logs / "slurm", flags.slurm_partition, flags.slurm_time)
        print(f"Slurm job {job}: {len(tasks)} tasks, outcomes in {logs}")
        return
    if flags.executor == "ray":
        outcomes = run_on_ray(tasks, flags.workers or -1, logs / "ray")
    else:
        outcomes = run_tasks(tasks, flags.workers or usable_cores(), "mining", preload="blocklm.many.mining")
    print(outcome_table(outcomes))
    raise_failures(outcomes)


def mine_history(flags: Namespace, recipe: Recipe) -> None:
    """Mine, curate and render for the recipe's model, and print the tables."""
    repositories = open_repositories(recipe.mining)
    changes = mine(repositories, recipe.mining)
    if flags.explain is not None:
        print("\n".join(explain(changes, curate(changes, recipe.mining), flags.explain)))
        return
    print(repository_table(changes.report["repository"]))
    vocabulary = vocabulary_of(recipe)
    special = frozenset(vocabulary.special_tokens)
    prompts = ModelPrompts(prompts_for(special, recipe.sampling.template), special)
    if flags.probe:
        prompts = probed_prompts(recipe, repositories, changes, prompts)
    corpus, tables = build_and_count(recipe, repositories, changes, prompts, vocabulary)
    print(f"{tables}\n{corpus.folder}")


def probed_prompts(
    recipe: Recipe, repositories: list[Repository], changes: Changes, prompts: ModelPrompts
) -> ModelPrompts:
    """Choose the prompts that the base model predicts best, and print what was measured."""
    from blocklm.evaluation.template_probe import HUNKS, TemplateProbe, best_prompts  # heavy
    from blocklm.models.source import ModelSource

    source = ModelSource.from_keys(recipe.model, recipe.training)
    hunks = held_out_hunks(changes.dataset, curate(changes, recipe.mining).verdicts, HUNKS)
    places = PlaceReader(changes.dataset, repositories, changes.known, replace(prompts, families={}))
    length = recipe.training.get("max_length") or DEFAULT_MAX_LENGTH
    scores = TemplateProbe(source, source.tokenizer(), recipe.views, length, places).ask(hunks)
    print(probe_table(scores))
    return replace(prompts, families=best_prompts(prompts.families, scores, recipe.exam_views[0]))


if __name__ == "__main__":
    with console():
        main()

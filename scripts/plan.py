"""Plan a run before anything is loaded: memory by part, micro-batch and length that fit the device, and its hours.

python scripts/plan.py recipes/starcoder2.yaml --repo ~/src/project
python scripts/plan.py recipes/starcoder2.yaml --gpu_memory 6GiB
python scripts/plan.py recipes/phi2.yaml --gpu_memory 8GiB --max_length 2048
python scripts/plan.py recipes/qwen2.5-coder-1.5b.yaml --measure
python scripts/plan.py recipes/starcoder2.yaml --measure --size starcoder2-3b --memory_limit 5.5GiB

Only the model's config is read, not its weights; with `--size` no file of the model. `--measure` runs the largest steps
on this device with random weights, and keeps the result for the plans of later runs.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from blocklm.config.recipe import parse_recipe
from blocklm.console import CommandLine, console
from blocklm.errors import UserError
from blocklm.models.pretrained import resolve_name
from blocklm.runs.report.console_tables import plan_table
from blocklm.training.planning.device import bytes_in, gpu_of

if TYPE_CHECKING:
    from blocklm.training.measuring.planned import Planned
    from blocklm.training.measuring.work import Work

KERNELS = ("efficient", "flash", "cudnn", "math")


def command_line() -> CommandLine:
    """Build the command line; all recipe keys may be given too."""
    parser = CommandLine(__doc__, beside_recipe=True)
    flags = parser.add_argument_group("beside the recipe's keys")
    flags.add_argument(
        "--gpu_memory",
        metavar="SIZE",
        help="plan for a GPU with this much memory, such as 6GiB, instead of this machine",
    )
    flags.add_argument(
        "--size", metavar="NAME", help="take the sizes of a well-known model, such as starcoder2-3b, without its files"
    )
    flags.add_argument(
        "--measure",
        action="store_true",
        help="run the largest train, evaluation, exam and answering steps on this device, with random weights",
    )
    flags.add_argument(
        "--memory_limit",
        metavar="SIZE",
        help="plan and measure as if tensors could take only so much; on a GPU PyTorch's allocator gets no more, on a "
        "CPU the measured peak is compared. The driver takes its part beside it: 5.5GiB stand for a card of 6 GB",
    )
    flags.add_argument(
        "--sdpa_kernel", choices=KERNELS, help="measure with this attention kernel of PyTorch alone, or fail"
    )
    return parser


def main() -> None:
    """Parse the recipe, plan, measure if asked, print."""
    parser = command_line()
    flags, keys_given = parser.parse_known_args()
    recipe = parse_recipe(keys_given, parser.format_help())
    given_device = gpu_of(flags.gpu_memory) if flags.gpu_memory else None
    if given_device is not None and (flags.measure or flags.memory_limit):
        raise UserError(
            "`--gpu_memory` plans for another device, where nothing can be measured", "give `--memory_limit` instead"
        )
    limit = bytes_in(flags.memory_limit, "--memory_limit") if flags.memory_limit else None
    if flags.size is None:
        resolve_name(recipe.model["model_name_or_path"])

    from blocklm.training.measuring.expected_gain import gain_line
    from blocklm.training.measuring.planned import Planned  # heavy
    from blocklm.training.measuring.tables import gpu_row, measurement_lines, work_lines
    from blocklm.training.measuring.verdict import measure_or_refuse, verdict
    from blocklm.training.planning.measurement import keep

    planned = Planned.of(recipe, flags.size, given_device, limit)
    print(plan_table(planned.plan.entry(), planned.steps.by_length(planned.device.budget)))
    work = count_work(planned) if any(word.partition("=")[0] == "--repo" for word in keys_given) else None
    if work is not None:
        print(gain_line(flags.size or planned.source.name, work.trained))
    if not flags.measure:
        print_all(() if work is None else work_lines(work, planned.measurement))
        return
    trial = planned.trial(flags.sdpa_kernel)
    measurement = measure_or_refuse(trial, planned.args)
    keep(planned.path, measurement)
    print_all(measurement_lines(measurement))
    print(f"row for docs/gpu.md: {gpu_row(measurement, flags.size or planned.source.name)}")
    print_all(() if work is None else work_lines(work, measurement))
    print(verdict(measurement, trial, planned.args, planned.device))


def print_all(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)


def count_work(planned: "Planned") -> "Work":
    """Mine the recipe's repositories, and count the tokens that a run reads and writes."""
    from blocklm.corpus.build import build_corpus
    from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
    from blocklm.git.repository import open_repositories
    from blocklm.mining.mine import mine
    from blocklm.models.vocabulary import Vocabulary
    from blocklm.training.measuring.work import work_of
    from blocklm.training.token_counts import CountedSamples, count_tokens

    recipe = planned.recipe
    repositories = open_repositories(recipe.mining)
    trust = planned.source.trust_remote_code
    vocabulary = Vocabulary.of(recipe.model, trust, Path(recipe.mining.corpus_dir))
    special = frozenset(vocabulary.special_tokens)
    prompts = ModelPrompts(prompts_for(special, recipe.sampling.template), special)
    corpus = build_corpus(recipe, repositories, mine(repositories, recipe.mining), prompts)
    length = planned.plan.max_length
    counted = CountedSamples(corpus.splits["train"], corpus.report["key"], corpus.places.fill, length)
    counts = count_tokens(counted, vocabulary, corpus.folder)
    return work_of(recipe, planned.args, planned.plan, corpus, counts)


if __name__ == "__main__":
    with console():
        main()

"""Plan a run before anything is loaded: memory by part, micro-batch and length that fit the device.

python scripts/plan.py recipes/starcoder2.yaml --repo ~/src/project
python scripts/plan.py recipes/starcoder2.yaml --gpu_memory 6GiB
python scripts/plan.py recipes/phi2.yaml --gpu_memory 8GiB --max_length 2048

Only the model's config is read, not its weights.
"""

from blocklm.config.recipe import parse_recipe
from blocklm.console import CommandLine, console
from blocklm.models.pretrained import resolve_name
from blocklm.runs.report.console_tables import plan_table
from blocklm.training.planning.device import gpu_of, this_device


def command_line() -> CommandLine:
    """Build the command line; all recipe keys may be given too."""
    parser = CommandLine(__doc__, beside_recipe=True)
    flags = parser.add_argument_group("beside the recipe's keys")
    flags.add_argument(
        "--gpu_memory",
        metavar="SIZE",
        help="plan for a GPU with this much memory, such as 6GiB, instead of this machine",
    )
    return parser


def main() -> None:
    """Parse the recipe, plan, print the plan."""
    parser = command_line()
    flags, keys_given = parser.parse_known_args()
    recipe = parse_recipe(keys_given, parser.format_help())
    given_device = gpu_of(flags.gpu_memory) if flags.gpu_memory else None
    resolve_name(recipe.model["model_name_or_path"])

    import torch  # heavy

    from blocklm.models.precision import Precision
    from blocklm.models.source import ModelSource
    from blocklm.training.planning.micro_batch import Steps, make_plan
    from blocklm.training.train import sft_config

    source = ModelSource.from_keys(recipe.model, recipe.training)
    args, precision = sft_config(recipe, source.precision), source.precision
    if given_device is not None:
        precision = Precision(True, False, torch.float16, "any GPU computes in 16 bit")
    device = given_device or this_device()
    trust = source.trust_remote_code
    steps = Steps(source.architecture(), source.config, args, precision, device.gpu, trust)
    print(plan_table(make_plan(steps, args, device).entry(), steps.by_length(device.budget)))


if __name__ == "__main__":
    with console():
        main()

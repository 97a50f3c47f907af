"""Measure speed and memory as ratios to named baselines, side by side in one run.

python scripts/benchmark.py mining --repo ~/src/project ~/src/other --rounds 5
python scripts/benchmark.py hygiene --repo ~/src/project
python scripts/benchmark.py rendering --repo ~/src/project
python scripts/benchmark.py startup --repo ~/src/project
python scripts/benchmark.py model
python scripts/benchmark.py planning
python scripts/benchmark.py training --repo ~/src/project
python scripts/benchmark.py callbacks
python scripts/benchmark.py retrieval --repo ~/src/project ~/src/other
python scripts/benchmark.py exactness --repo ~/src/project
python scripts/benchmark.py serving --run runs/project --repo ~/src/project
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from blocklm.benchmarks.mining import exactness_table, hygiene_table, mining_table
from blocklm.benchmarks.rendering import rendering_table
from blocklm.benchmarks.startup import startup_table
from blocklm.console import CommandLine, console
from blocklm.errors import UserError


def _planning() -> Iterator[str]:
    from blocklm.benchmarks.planning import planning_table  # torch, which the other cases measure without

    return planning_table()


def _model(rounds: int) -> Iterator[str]:
    from blocklm.benchmarks.model import model_table

    return model_table(rounds)


def _training(paths: list[Path], rounds: int) -> Iterator[str]:
    from blocklm.benchmarks.training import training_table

    return training_table(paths, rounds)


def _retrieval(paths: list[Path], rounds: int) -> Iterator[str]:
    from blocklm.benchmarks.retrieval import retrieval_table

    return retrieval_table(paths, rounds)


def _callbacks(rounds: int) -> Iterator[str]:
    from blocklm.benchmarks.callbacks import callbacks_table

    return callbacks_table(rounds)


def _serving(run: Path | None, llama_cpp: str | None, paths: list[Path], rounds: int) -> Iterator[str]:
    from blocklm.benchmarks.serving import serving_table

    if run is None:
        raise UserError("no run to serve", "name a completed run with `--run`")
    return serving_table(run, paths, rounds, llama_cpp)


TABLES: dict[str, Callable[[list[Path], int], Iterator[str]]] = {
    "mining": mining_table,
    "hygiene": hygiene_table,
    "rendering": rendering_table,
    "startup": startup_table,
    "model": lambda _, rounds: _model(rounds),
    "planning": lambda _, __: _planning(),
    "training": _training,
    "callbacks": lambda _, rounds: _callbacks(rounds),
    "retrieval": _retrieval,
    "exactness": lambda paths, _: exactness_table(paths),
}
SERVING = "serving"


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("name", choices=sorted([*TABLES, SERVING]), help="what to measure")
    parser.add_argument(
        "--repo", nargs="+", type=Path, default=[Path()], help="git repositories (default: this folder)"
    )
    parser.add_argument("--run", type=Path, help="completed run, for `serving`")
    parser.add_argument("--engine_url", help="server of llama.cpp that has the run's model, for `serving`")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case (default: 5)")
    return parser


def main() -> None:
    """Parse the command line, measure, print the table."""
    arguments = command_line().parse_args()
    tables = TABLES | {SERVING: partial(_serving, arguments.run, arguments.engine_url)}
    for line in tables[arguments.name](arguments.repo, arguments.rounds):
        print(line, flush=True)


if __name__ == "__main__":
    with console():
        main()

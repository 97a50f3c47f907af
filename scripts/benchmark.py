"""Speed and memory as ratios against named baselines, measured side by side in one run.

python scripts/benchmark.py mining --repo ~/src/project ~/src/other --rounds 5
python scripts/benchmark.py exactness --repo ~/src/project
"""

import argparse
from pathlib import Path

from blocklm.benchmark import exactness_table, mining_table
from blocklm.console import console


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("mining", "exactness"), help="what to measure")
    parser.add_argument("--repo", nargs="+", type=Path, default=[Path()], help="git repositories (default: here)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each case; the median counts")
    arguments = parser.parse_args()
    table = (
        mining_table(arguments.repo, arguments.rounds)
        if arguments.name == "mining"
        else exactness_table(arguments.repo)
    )
    for line in table:
        print(line, flush=True)


if __name__ == "__main__":
    with console():
        main()

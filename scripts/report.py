"""Build a run's report again: a single HTML file to open, print or mail; works for an interrupted run too.

python scripts/report.py runs/starcoder2
"""

from pathlib import Path

from blocklm.console import CommandLine, console


def command_line() -> CommandLine:
    """Build the command line."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    return parser


def main() -> None:
    """Build the report and print its path."""
    args = command_line().parse_args()

    from blocklm.runs.report.html import write_html_report  # loads matplotlib, two seconds

    print(write_html_report(args.run_dir))


if __name__ == "__main__":
    with console():
        main()

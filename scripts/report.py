"""The report of a run, built again: one HTML file to open, print or mail, also of a run that was interrupted.

python scripts/report.py runs/starcoder2
"""

from pathlib import Path

from blocklm.console import CommandLine, console


def command_line() -> CommandLine:
    """What may be given."""
    parser = CommandLine(__doc__)
    parser.add_argument("run_dir", type=Path)
    return parser


def main() -> None:
    """Build it and print where it stands."""
    args = command_line().parse_args()

    from blocklm.runs.report.html import write_html_report  # loads matplotlib, two seconds

    print(write_html_report(args.run_dir))


if __name__ == "__main__":
    with console():
        main()

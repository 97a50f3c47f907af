"""The report of a run, built again: one HTML file to open, print or mail, also of a run that was interrupted.

python scripts/report.py runs/starcoder2
"""

import sys
from pathlib import Path

from blocklm.console import console


def main() -> None:
    """Build it and print where it stands."""
    arguments = sys.argv[1:]
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(f"usage: report.py RUN_DIR\n\n{__doc__}")
        raise SystemExit(0 if arguments else 2)

    from blocklm.runs.report.html import write_html_report  # loads matplotlib, two seconds

    print(write_html_report(Path(arguments[0])))


if __name__ == "__main__":
    with console():
        main()

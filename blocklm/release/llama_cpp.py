"""Finds and runs the programs of a checkout of llama.cpp: its converters, and its quantiser where it is built."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from blocklm.errors import UserError

MODEL_CONVERTER, ADAPTER_CONVERTER = "convert_hf_to_gguf.py", "convert_lora_to_gguf.py"
QUANTISER = "llama-quantize"
UTF8_ENVIRONMENT = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}


def checkout(folder: Path) -> Path:
    """Check that a folder has llama.cpp's converter, and return it.

    Raises:
        UserError: the converter is missing.
    """
    folder = folder.expanduser()
    if not (folder / MODEL_CONVERTER).is_file():
        raise UserError(
            f"`{folder}` has no {MODEL_CONVERTER}", "give the folder of a checkout of llama.cpp after `--gguf`"
        )
    return folder


def quantiser(llama_cpp: Path) -> Path | None:
    """Find llama.cpp's quantiser: built in its checkout, or installed; None if it is neither."""
    built = shutil.which(QUANTISER, path=os.pathsep.join(map(str, (llama_cpp / "build" / "bin", llama_cpp))))
    found = built or shutil.which(QUANTISER)
    return None if found is None else Path(found).absolute()


def convert(script: Path, arguments: Sequence[str], file: Path) -> Path:
    """Run a converter that writes `file`; after a failure there is no partial file.

    Raises:
        UserError: the converter fails.
    """
    return _run(lambda out: [sys.executable, str(script), *arguments, "--outfile", str(out)], script.name, file)


def quantise(program: Path, model: Path, kind: str, file: Path) -> Path:
    """Write `file` with the weights of a GGUF file in a quantised type of llama.cpp's; after a failure there is none.

    Raises:
        UserError: the program fails.
    """
    return _run(lambda out: [str(program), str(model), str(out), kind], program.name, file)


def _run(command: Callable[[Path], list[str]], name: str, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{file.name}")
    try:
        done = subprocess.run(
            command(building),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=os.environ | UTF8_ENVIRONMENT,
        )
        if done.returncode != 0:
            raise _failure(name, done)
        return building.replace(file)
    finally:
        building.unlink(missing_ok=True)


def _failure(name: str, done: subprocess.CompletedProcess[str]) -> Exception:
    message = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1][:200]
    if "No space left on device" in message:
        return OSError(errno.ENOSPC, message)
    missing = re.search(r"No module named '(\w+)", message)
    return UserError(
        f"{name} ended with {done.returncode}: {message}",
        f"`python -m pip install {missing[1]}`: that converter needs it"
        if missing
        else "give `--gguf` a newer checkout of llama.cpp, which may know this architecture",
    )

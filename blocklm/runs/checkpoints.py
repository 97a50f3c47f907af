"""Lists the checkpoints of a run, finds damage in them, and deletes old ones to save disk.

A checkpoint is intact when each file that was written into it is there, with all its bytes: weights, optimizer,
schedule and the random state of every process. The trainer itself would resume without most of them, with an empty
optimizer.
"""

import json
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from blocklm.files import write_json

NAME = re.compile(r"checkpoint-(\d+)")  # a copy or an archive beside them has another name
FILES = "files.json"
STATE = "trainer_state.json"  # the trainer writes it last
# The folder of a result or a checkpoint may also hold weights that other programs saved.
WEIGHTS = re.compile(r"(adapter_model|model|model-\d{5}-of-\d{5})\.safetensors")


def checkpoints(run_dir: Path) -> list[Path]:
    """List the checkpoints of a run, newest first."""
    folders = [path for path in run_dir.glob("checkpoint-*") if NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(folders, key=step_of, reverse=True)


def latest_checkpoint(output_dir: Path) -> Path | None:
    """Find the newest intact checkpoint; None if there is none."""
    return next((path for path in checkpoints(output_dir) if damage_of(path) is None), None)


def step_of(checkpoint: Path) -> int:
    """Return the training step after which a checkpoint was saved."""
    return int(checkpoint.name.rpartition("-")[2])


def saved_weights(folder: Path) -> list[Path]:
    """List the files in which BlockLM or transformers saved weights."""
    return sorted(path for path in folder.glob("*.safetensors") if WEIGHTS.fullmatch(path.name))


def record_files(checkpoint: Path) -> None:
    """Record name and size in bytes of each file of a checkpoint, whose trainer state is still to be written."""
    present = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name not in (FILES, STATE))
    write_json(checkpoint / FILES, {str(path.relative_to(checkpoint)): path.stat().st_size for path in present})


def damage_of(checkpoint: Path) -> str | None:
    """Return the reason why training cannot resume from a checkpoint; None if it can.

    The best earlier checkpoint must be intact too if it exists, because the run may end with its weights.
    """
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        best = checkpoint.with_name(f"checkpoint-{state['best_global_step']}")
        sizes = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))
        for name, size in sizes.items():
            _check_file(checkpoint / name, size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, zipfile.BadZipFile) as error:
        return _describe(error, checkpoint)
    if not saved_weights(checkpoint):
        return "it holds no weights"
    if step_of(checkpoint) > int(state["best_global_step"] or 0) and best.is_dir() and (damage := damage_of(best)):
        return f"the best before it, {best.name}, is damaged: {damage}"
    return None


def _check_file(path: Path, size: int) -> None:
    present = path.stat().st_size
    if present != size:
        raise ValueError(f"{path.name} has {present} of {size} bytes")
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            pass
    elif path.suffix in (".pt", ".pth", ".bin"):  # torch's are zip archives, with a checksum of each part
        with zipfile.ZipFile(path) as archive:
            if bad_entry := archive.testzip():
                raise ValueError(f"{path.name} is damaged at {bad_entry}")


def _describe(error: Exception, checkpoint: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).relative_to(checkpoint)} is missing"
    return " ".join(str(error).split()) or type(error).__name__


def delete_old_checkpoints(run_dir: Path, limit: int | None, kept_steps: set[int]) -> None:
    """Delete the oldest checkpoints beyond a limit.

    The function of transformers would take `checkpoint-4-copy` for a checkpoint and delete it.

    Args:
        run_dir: the run directory.
        limit: most checkpoints to keep; None or 0 keeps all.
        kept_steps: steps whose checkpoints are kept in any case: the newest and the best.
    """
    if limit is None or limit <= 0:
        return
    present = checkpoints(run_dir)
    deletable = [path for path in reversed(present) if step_of(path) not in kept_steps]
    for path in deletable[: max(0, len(present) - limit)]:
        shutil.rmtree(path, ignore_errors=True)

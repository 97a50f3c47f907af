"""The checkpoints of a run directory: which can be gone on from."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest checkpoint that is whole; one torn by a kill or a full disk is passed over.

    The trainer writes `trainer_state.json` last, so a checkpoint that has it has everything.
    """
    found = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        weights = list(checkpoint.glob("*.safetensors"))
        for path in weights:
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError):
        return False
    return bool(weights)

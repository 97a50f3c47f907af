"""Readers of the files in a run directory."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file


def manifest(run: Path) -> dict[str, Any]:
    """Content of the manifest."""
    return dict(json.loads((run / "manifest.json").read_text()))


def weights(run: Path) -> dict[str, Any]:
    """Weights of the adapter by name, as lists."""
    return {name: tensor.tolist() for name, tensor in load_file(run / "adapter_model.safetensors").items()}

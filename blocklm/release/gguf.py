"""GGUF files and Ollama's Modelfile by the converters of a checkout of llama.cpp, each compared with what it was made of."""

import errno
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GgufConfig

from blocklm.errors import UserError
from blocklm.release.merge import compared, voice
from blocklm.runs.completed import Finished

OF_MODELS, OF_ADAPTERS = "convert_hf_to_gguf.py", "convert_lora_to_gguf.py"
MODEL, ADAPTER = "model-f16.gguf", "adapter-f32.gguf"
NOT_IN_GGUF = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices")
MODELFILE = """FROM ./{file}
TEMPLATE \"\"\"{{{{ .Prompt }}}}\"\"\"
PARAMETER stop "{stop}"
PARAMETER temperature 0
"""


def checkout(folder: Path) -> Path:
    """A folder that has llama.cpp's converter.

    Raises:
        UserError: it has not.
    """
    folder = folder.expanduser()
    if not (folder / OF_MODELS).is_file():
        raise UserError(f"`{folder}` has no {OF_MODELS}", "give the folder of a checkout of llama.cpp after `--gguf`")
    return folder


def to_gguf(run: Finished, merged: Path, llama_cpp: Path, out: Path) -> dict[str, Any]:
    """Convert a merged model, and compare what can be read back.

    Args:
        run: whose merged model it is.
        merged: its folder.
        llama_cpp: a checkout of llama.cpp, or another folder with its converters.
        out: the folder for the file and Ollama's Modelfile.

    Returns:
        Size, and how far the file is from the merged model; `unchecked` says why if transformers cannot read it.

    Raises:
        UserError: the converter fails.
    """
    file = _converted(llama_cpp / OF_MODELS, [str(merged), "--outtype", "f16"], out / MODEL)
    modelfile = MODELFILE.format(file=file.name, stop=run.tokenizer.eos_token)
    (out / "Modelfile").write_text(modelfile, encoding="utf-8")
    found: dict[str, Any] = {"file": file.name, "bytes": file.stat().st_size}
    expected = voice(AutoModelForCausalLM.from_pretrained(merged, dtype="auto"), run.tokenizer)
    try:
        read = AutoModelForCausalLM.from_pretrained(
            out, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        return found | {"unchecked": f"transformers does not read this architecture's GGUF: {error}"[:200]}
    return found | compared(voice(read, run.tokenizer), expected)


def adapter_to_gguf(run: Finished, llama_cpp: Path, out: Path) -> dict[str, Any]:
    """Convert the adapter alone, which llama.cpp puts on a GGUF file of the base.

    llama.cpp scales it by `lora_alpha / r` and knows nothing else; an adapter that acts otherwise is left out.

    Args:
        run: one with an adapter.
        llama_cpp: as for `to_gguf`.
        out: the folder for the file.

    Returns:
        Size and number of adapted matrices; or `refused`, why there is no file.
    """
    config = LoraConfig.from_pretrained(run.path)
    if otherwise := [key for key in NOT_IN_GGUF if getattr(config, key, None)]:
        return {"refused": f"llama.cpp has no place for `{otherwise[0]}`"}
    if not (llama_cpp / OF_ADAPTERS).is_file():
        return {"refused": f"`{llama_cpp}` has no {OF_ADAPTERS}"}
    base = run.source.name
    local = Path(base).expanduser()
    of = ["--base", str(local)] if local.is_dir() else ["--base-model-id", base]
    try:
        file = _converted(llama_cpp / OF_ADAPTERS, [str(run.path), *of, "--outtype", "f32"], out / ADAPTER)
    except UserError as error:
        return {"refused": str(error)}
    tensors, saved = GGUFReader(file).tensors, load_file(run.path / "adapter_model.safetensors")
    found = {"file": file.name, "bytes": file.stat().st_size, "matrices": len(tensors) // 2}
    # The converter turns rows for other rotary positions: which numbers there are, not where, is the same.
    read = sum(float((torch.tensor(tensor.data).double() ** 2).sum()) for tensor in tensors)
    expected = sum(float((tensor.double() ** 2).sum()) for tensor in saved.values())
    if len(tensors) != len(saved) or abs(read - expected) > 1e-6 * expected:
        return found | {"unchecked": "the converter has split or joined matrices"}
    return found


def _converted(script: Path, arguments: Sequence[str], file: Path) -> Path:
    """A file that a converter writes, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{file.name}")
    command = [sys.executable, str(script), *arguments, "--outfile", str(building)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode != 0:
            raise _failed(script.name, done)
        return building.replace(file)
    finally:
        building.unlink(missing_ok=True)


def _failed(name: str, done: subprocess.CompletedProcess[str]) -> Exception:
    said = (done.stderr.strip() or "it says nothing").splitlines()[-1][:200]
    if "No space left on device" in said:
        return OSError(errno.ENOSPC, said)
    missing = re.search(r"No module named '(\w+)", said)
    return UserError(
        f"{name} ended with {done.returncode}: {said}",
        f"`python -m pip install {missing[1]}`: that converter needs it"
        if missing
        else "it may not know this architecture: take a newer checkout of llama.cpp",
    )

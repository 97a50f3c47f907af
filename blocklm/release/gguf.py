"""Writes GGUF files with llama.cpp's converters, compares each with its source, and writes Ollama's Modelfile."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GgufConfig

from blocklm.corpus.places.infill_tokens import InfillTokens
from blocklm.errors import UserError
from blocklm.release.merge import compare_outputs, probe_output
from blocklm.runs.completed import CompletedRun

MODEL_CONVERTER, ADAPTER_CONVERTER = "convert_hf_to_gguf.py", "convert_lora_to_gguf.py"
MODEL, ADAPTER = "model-f16.gguf", "adapter-f32.gguf"
UTF8_ENVIRONMENT = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
NOT_IN_GGUF = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices")
PROMPT = "{{ .Prompt }}"
# Ollama and the editors that use it recognise a model that fills gaps by `.Suffix` in its template.
INFILL = "{{{{ if .Suffix }}}}{prefix}{{{{ .Prompt }}}}{suffix}{{{{ .Suffix }}}}{middle}{{{{ else }}}}{{{{ .Prompt }}}}{{{{ end }}}}"
KEYS = Keys.Tokenizer


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


def to_gguf(run: CompletedRun, merged: Path, llama_cpp: Path, out: Path) -> dict[str, Any]:
    """Convert a merged model, and compare the file with it.

    Args:
        run: the run of the merged model.
        merged: folder of the merged model.
        llama_cpp: folder with llama.cpp's converters.
        out: folder for the file and Ollama's Modelfile.

    Returns:
        Size, and differences between the file and the merged model; `unchecked` says why transformers cannot read it.

    Raises:
        UserError: the converter fails.
    """
    file = _convert(llama_cpp / MODEL_CONVERTER, [str(merged), "--outtype", "f16"], out / MODEL)
    mark_gaps(file, run)
    (out / "Modelfile").write_text(modelfile(file.name, str(run.tokenizer.eos_token), run.infill), encoding="utf-8")
    found: dict[str, Any] = {"file": file.name, "bytes": file.stat().st_size}
    expected = probe_output(AutoModelForCausalLM.from_pretrained(merged, dtype="auto"), run.tokenizer)
    try:
        read = AutoModelForCausalLM.from_pretrained(
            out, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        return found | {"unchecked": f"transformers does not read this architecture's GGUF: {error}"[:200]}
    return found | compare_outputs(probe_output(read, run.tokenizer), expected)


def adapter_to_gguf(run: CompletedRun, llama_cpp: Path, out: Path) -> dict[str, Any]:
    """Convert the adapter alone, for llama.cpp to put on a GGUF file of the base.

    llama.cpp supports only plain LoRA, scaled by `lora_alpha / r`; other adapters are not converted.

    Args:
        run: a run with an adapter.
        llama_cpp: folder with llama.cpp's converters.
        out: folder for the file.

    Returns:
        Size and number of adapted matrices; or `refused`, with the reason why there is no file.
    """
    config = LoraConfig.from_pretrained(run.path)
    if otherwise := [key for key in NOT_IN_GGUF if getattr(config, key, None)]:
        return {"refused": f"llama.cpp has no place for `{otherwise[0]}`"}
    if not (llama_cpp / ADAPTER_CONVERTER).is_file():
        return {"refused": f"`{llama_cpp}` has no {ADAPTER_CONVERTER}"}
    base = run.source.name
    local = Path(base).expanduser()
    of = ["--base", str(local)] if local.is_dir() else ["--base-model-id", base]
    try:
        file = _convert(llama_cpp / ADAPTER_CONVERTER, [str(run.path), *of, "--outtype", "f32"], out / ADAPTER)
    except UserError as error:
        return {"refused": str(error)}
    tensors, saved = GGUFReader(file).tensors, load_file(run.path / "adapter_model.safetensors")
    found = {"file": file.name, "bytes": file.stat().st_size, "matrices": len(tensors) // 2}
    # The converter permutes rows for other rotary positions, so only the sum of squares can be compared.
    read = sum(float((torch.tensor(tensor.data).double() ** 2).sum()) for tensor in tensors)
    expected = sum(float((tensor.double() ** 2).sum()) for tensor in saved.values())
    if len(tensors) != len(saved) or abs(read - expected) > 1e-6 * expected:
        return found | {"unchecked": "the converter has split or joined matrices"}
    return found


def modelfile(file: str, end: str, infill: InfillTokens | None) -> str:
    """Make Ollama's Modelfile, whose template is the plain prompt, or the gap in the vocabulary's own tokens.

    Args:
        file: name of the GGUF file.
        end: token that ends a text.
        infill: tokens that mark a gap; None if the vocabulary has none.
    """
    template, stops = PROMPT, [end]
    if infill is not None:
        # SentencePiece writes the space before a token as part of it.
        prefix, suffix, middle = (re.sub("^▁", " ", mark) for mark in (infill.prefix, infill.suffix, infill.middle))
        template = INFILL.format(prefix=prefix.lstrip(), suffix=suffix, middle=middle)
        stops += [mark.removeprefix("▁") for mark in (infill.prefix, infill.suffix, infill.middle, *infill.files)]
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""', *(f'PARAMETER stop "{stop}"' for stop in stops)]
    return "\n".join([*lines, "PARAMETER temperature 0", ""])


def mark_gaps(file: Path, run: CompletedRun) -> None:
    """Write into a GGUF file which tokens mark a gap; llama.cpp knows some by their names, and not StarCoder2's."""
    infill = run.infill
    if infill is None:
        return
    marks = [infill.prefix, infill.suffix, infill.middle, *infill.files]
    names = (KEYS.FIM_PRE_ID, KEYS.FIM_SUF_ID, KEYS.FIM_MID_ID, KEYS.FIM_REP_ID, KEYS.FIM_SEP_ID)
    ids = dict(zip(names, run.tokenizer.convert_tokens_to_ids(marks), strict=False))
    reader = GGUFReader(file)
    architecture = str(reader.fields[Keys.General.ARCHITECTURE].contents())
    building = file.with_name(f".{file.name}")
    try:
        writer = GGUFWriter(building, architecture, endianess=reader.endianess)
        if alignment := reader.fields.get(Keys.General.ALIGNMENT):
            writer.data_alignment = int(alignment.contents())
        details = {name: MetadataDetails(GGUFValueType.UINT32, number) for name, number in ids.items()}
        copy_with_new_metadata(reader, writer, details, [])
        building.replace(file)
    finally:
        building.unlink(missing_ok=True)


def _convert(script: Path, arguments: Sequence[str], file: Path) -> Path:
    """Run a converter that writes `file`; after a failure there is no partial file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    building = file.with_name(f".{file.name}")
    command = [sys.executable, str(script), *arguments, "--outfile", str(building)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            env=os.environ | UTF8_ENVIRONMENT,
        )
        if done.returncode != 0:
            raise _converter_error(script.name, done)
        return building.replace(file)
    finally:
        building.unlink(missing_ok=True)


def _converter_error(name: str, done: subprocess.CompletedProcess[str]) -> Exception:
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

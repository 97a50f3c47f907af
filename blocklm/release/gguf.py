"""Writes GGUF files with llama.cpp's converters, compares each with its source, and writes Ollama's Modelfile."""

import re
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel

from blocklm.corpus.places.infill_tokens import InfillTokens
from blocklm.errors import UserError
from blocklm.release.llama_cpp import ADAPTER_CONVERTER, MODEL_CONVERTER, convert
from blocklm.release.merge import compare_outputs, probe_output
from blocklm.runs.completed import CompletedRun

MODEL, ADAPTER, MODELFILE = "model-f16.gguf", "adapter-f32.gguf", "Modelfile"
NOT_IN_GGUF = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices")
PROMPT = "{{ .Prompt }}"
# Ollama and the editors that use it recognise a model that fills gaps by `.Suffix` in its template.
INFILL = "{{{{ if .Suffix }}}}{prefix}{{{{ .Prompt }}}}{suffix}{{{{ .Suffix }}}}{middle}{{{{ else }}}}{{{{ .Prompt }}}}{{{{ end }}}}"
KEYS = Keys.Tokenizer


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
    file = convert(llama_cpp / MODEL_CONVERTER, [str(merged), "--outtype", "f16"], out / MODEL)
    mark_gaps(file, run)
    (out / MODELFILE).write_text(modelfile(file.name, str(run.tokenizer.eos_token), run.infill), encoding="utf-8")
    found: dict[str, Any] = {"file": file.name, "bytes": file.stat().st_size}
    expected = probe_output(AutoModelForCausalLM.from_pretrained(merged, dtype="auto"), run.tokenizer)
    try:
        read = read_gguf(file)
    except UserError as error:
        return found | {"unchecked": str(error)}
    return found | compare_outputs(probe_output(read, run.tokenizer), expected)


def read_gguf(file: Path) -> PreTrainedModel:
    """Read the model of a GGUF file with transformers, with weights in float32.

    Raises:
        UserError: transformers does not know this architecture's GGUF.
    """
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(
            f"transformers does not read this architecture's GGUF: {error}"[:200], "compare it in llama.cpp"
        ) from error
    return model


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
        file = convert(llama_cpp / ADAPTER_CONVERTER, [str(run.path), *of, "--outtype", "f32"], out / ADAPTER)
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

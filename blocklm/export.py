"""A run's result in the forms that other programs read: a merged model, GGUF and Ollama's Modelfile, each checked.

An adapter is merged into a reload of the base without quantisation, never into 4-bit weights: those round the sum to their
few levels, and most of what was learned is gone. Rounding to 16 bit costs something too, which is measured here.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel, PreTrainedTokenizerBase

from blocklm.errors import UserError
from blocklm.finished import Finished
from blocklm.generation import Decoding, generate
from blocklm.saved import ASKED, logits

DTYPES = ("auto", "bfloat16", "float16", "float32")
MERGED = "merged"
# Rounding may take so much of the mean change that training made.
LOST_AT_MOST = 0.25
SPOKEN = 24
MODELFILE = """FROM ./{file}
TEMPLATE \"\"\"{{{{ .Prompt }}}}\"\"\"
PARAMETER stop "{stop}"
PARAMETER temperature 0
"""


@dataclass(frozen=True)
class Voice:
    """What a model says: its logits on a fixed text, and its greedy continuation of it."""

    logits: torch.Tensor
    text: str


def voice(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Voice:
    """Ask a model; it is put into evaluation mode."""
    ids = tokenizer(ASKED, return_tensors="pt").input_ids
    decoding = Decoding(SPOKEN, may_end=False)
    (answer,) = generate(model, tokenizer, [ids[0].tolist()], [None], decoding, torch.float32)
    return Voice(logits(model, ids), answer.text)


def compared(asked: Voice, expected: Voice) -> dict[str, Any]:
    """How far what one model says is from what another says."""
    difference = (asked.logits - expected.logits).abs()
    same = asked.logits.argmax(-1) == expected.logits.argmax(-1)
    return {
        "max_logit_difference": float(difference.max()),
        "mean_logit_difference": float(difference.mean()),
        "same_next_token": float(same.float().mean()),
        "same_greedy_text": asked.text == expected.text,
        "text": asked.text,
    }


def merge(run: Finished, out: Path, dtype: str = "auto") -> dict[str, Any]:
    """Merge the run's adapter into its base and write the model to `out`, which appears whole or not at all.

    Args:
        run: one with an adapter.
        out: a folder; one that is there is replaced.
        dtype: of the merged weights; `auto` is the base's own where that has 16 bit, else float16, of the 16-bit types the
            one that rounds least.

    Returns:
        Size, dtype and how far the merged model is from adapter and base.

    Raises:
        UserError: there is no adapter, or rounding would cost too much of what it learned.
    """
    if not run.adapted:
        raise UserError(f"`{run.path}` holds no adapter: there is nothing to merge", "its model is whole already")
    base = run.plain_base(dtype)
    if dtype == "auto" and base.dtype == torch.float32:
        base = base.to(torch.float16)
    before = logits(base, run.tokenizer(ASKED, return_tensors="pt").input_ids)
    adapted = PeftModel.from_pretrained(base, run.path)
    expected = voice(adapted, run.tokenizer)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(
            f"the adapter cannot be merged: {error}", "`--dtype float32` has room for larger values"
        ) from error
    merged.generation_config.eos_token_id = run.tokenizer.eos_token_id
    merged.generation_config.pad_token_id = run.tokenizer.pad_token_id
    building = out.with_name(f".{out.name}")
    shutil.rmtree(building, ignore_errors=True)
    merged.save_pretrained(building)
    run.tokenizer.save_pretrained(building)
    del base, adapted, merged
    reloaded = AutoModelForCausalLM.from_pretrained(building, dtype="auto")
    report = compared(voice(reloaded, run.tokenizer), expected)
    lost = report["mean_logit_difference"] / max(float((expected.logits - before).abs().mean()), 1e-12)
    if not lost <= LOST_AT_MOST:
        shutil.rmtree(building)
        raise UserError(
            f"rounding to {reloaded.dtype} would cost {100 * lost:.0f} % of what the adapter changes",
            "merge with `--dtype float32`, or hand over the adapter itself",
        )
    shutil.rmtree(out, ignore_errors=True)
    building.rename(out)
    return {
        "dtype": str(reloaded.dtype).removeprefix("torch."),
        "bytes": size(out),
        "share_lost_to_rounding": lost,
    } | report


def to_gguf(run: Finished, merged: Path, llama_cpp: Path, out: Path) -> dict[str, Any]:
    """Convert a merged model with llama.cpp's own script, and compare what can be read back.

    Args:
        run: whose merged model it is.
        merged: its folder.
        llama_cpp: a checkout of llama.cpp, or another folder with its `convert_hf_to_gguf.py`.
        out: the folder for the file and Ollama's Modelfile.

    Returns:
        Size, and how far the file is from the merged model; `unchecked` says why if transformers cannot read it.

    Raises:
        UserError: there is no script, or it fails.
    """
    script = llama_cpp / "convert_hf_to_gguf.py"
    if not script.is_file():
        raise UserError(
            f"`{llama_cpp}` has no convert_hf_to_gguf.py", "give the folder of a checkout of llama.cpp after `--gguf`"
        )
    out.mkdir(parents=True, exist_ok=True)
    file = out / "model-f16.gguf"
    _run([str(script), str(merged), "--outfile", str(file), "--outtype", "f16"])
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


def size(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _run(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise UserError(
            f"{Path(command[0]).name} ended with {done.returncode}: {said[:200]}",
            "it may not know this architecture: take a newer checkout of llama.cpp",
        )

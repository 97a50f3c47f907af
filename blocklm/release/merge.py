"""Merges a run's adapter into its base and checks the result, in the form that most other programs read.

The base is loaded again without quantisation: merging into 4-bit weights would round the sum to few levels and lose
most of what was learned. Rounding to 16 bit loses something too, which is measured here.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from blocklm.errors import UserError
from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.models.loaded import LoadedModel
from blocklm.release.verify import PROBE_TEXT, logits
from blocklm.runs.completed import CompletedRun

MERGED = "merged"
# Share of training's mean change of the logits that rounding may lose.
MAX_LOST_SHARE = 0.25
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class ProbeOutput:
    """A model's logits on a fixed text, and its greedy continuation of that text."""

    logits: torch.Tensor
    text: str


def probe_output(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> ProbeOutput:
    """Run a model on the fixed text; the model is put into evaluation mode."""
    ids = tokenizer(PROBE_TEXT, return_tensors="pt").input_ids
    decoding = Decoding(ANSWER_TOKENS, may_end=False)
    (answer,) = generate(LoadedModel(model, tokenizer, torch.float32), [ids[0].tolist()], decoding)
    return ProbeOutput(logits(model, ids), answer.text)


def compare_outputs(actual: ProbeOutput, expected: ProbeOutput) -> dict[str, Any]:
    """Compare the outputs of two models."""
    difference = (actual.logits - expected.logits).abs()
    same = actual.logits.argmax(-1) == expected.logits.argmax(-1)
    return {
        "max_logit_difference": float(difference.max()),
        "mean_logit_difference": float(difference.mean()),
        "same_next_token": float(same.float().mean()),
        "same_greedy_text": actual.text == expected.text,
        "text": actual.text,
    }


def merge(run: CompletedRun, out: Path, dtype: str = "auto") -> dict[str, Any]:
    """Merge the run's adapter into its base and write the model to `out`; after a failure there is no partial model.

    Args:
        run: a run with an adapter.
        out: output folder; `merged` of the run is replaced, any other folder must be new or empty.
        dtype: dtype of the merged weights; by default `auto`, the base's own if it has 16 bit, else float16, the 16-bit
            type that rounds least.

    Returns:
        Size, dtype, and differences between the merged model and base with adapter.

    Raises:
        UserError: there is no adapter, `out` is not empty, or rounding would lose too much of what was learned.
    """
    if not run.adapted:
        raise UserError(
            f"`{run.path}` holds no adapter: there is nothing to merge",
            "use the model in that folder; only an adapter can be merged",
        )
    ours = out.resolve() == (run.path / MERGED).resolve()
    if not ours and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"`{out}` is not empty", "give a new folder after `--out`")
    base = run.plain_base(dtype)
    if dtype == "auto" and base.dtype == torch.float32:
        base = base.to(torch.float16)
    before = logits(base, run.tokenizer(PROBE_TEXT, return_tensors="pt").input_ids)
    adapted = PeftModel.from_pretrained(base, run.path)
    expected = probe_output(adapted, run.tokenizer)
    try:
        merged = adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise UserError(
            f"the adapter cannot be merged: {error}", "give `--dtype float32`, which can hold larger values"
        ) from error
    merged.generation_config.eos_token_id = run.tokenizer.eos_token_id
    merged.generation_config.pad_token_id = run.tokenizer.pad_token_id
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        building = Path(temporary) / out.name
        merged.save_pretrained(building)
        run.tokenizer.save_pretrained(building)
        del base, adapted, merged
        reloaded = AutoModelForCausalLM.from_pretrained(building, dtype="auto")
        report = compare_outputs(probe_output(reloaded, run.tokenizer), expected)
        lost = report["mean_logit_difference"] / max(float((expected.logits - before).abs().mean()), 1e-12)
        if not lost <= MAX_LOST_SHARE:
            raise UserError(
                f"rounding to {reloaded.dtype} would cost {100 * lost:.0f} % of what the adapter changes",
                "merge with `--dtype float32`, or publish the adapter itself",
            )
        shutil.rmtree(out, ignore_errors=True)
        building.rename(out)
    return {
        "dtype": str(reloaded.dtype).removeprefix("torch."),
        "bytes": folder_bytes(out),
        "share_lost_to_rounding": lost,
    } | report


def folder_bytes(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

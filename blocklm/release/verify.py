"""Is what was saved what was trained? The result is loaded into a fresh model and asked the same as the live one.

A save can go wrong in silence: an adapter whose B is still zero, weights under names that nothing reads, a head that was
trained and not written. Only a reload tells.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub._local_folder import read_download_metadata
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import resolve_revision

from blocklm.errors import UserError
from blocklm.files import write_json

ASKED = "def read(path):\n    with open(path) as file:\n        return file.read()\n\nfn main() {\n"
# Of the change that training made: the same weights on the same base differ by rounding alone.
TOLERANCE = 0.01


@dataclass(frozen=True)
class ReferenceLogits:
    """What the live model says and what the base said: logits of shape (tokens, vocabulary), in products of `dtype`."""

    ids: torch.Tensor
    dtype: torch.dtype
    live: torch.Tensor
    base: torch.Tensor

    @property
    def change(self) -> float:
        """The largest change of a logit that training made."""
        return float((self.live - self.base).abs().max())


def reference_logits(
    model: PreTrainedModel,
    base: AbstractContextManager[PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    dtype: torch.dtype,
) -> ReferenceLogits:
    """Ask the live model, then the base that `base` opens: entering it may replace the model."""
    ids = tokenizer(ASKED, return_tensors="pt").input_ids
    live = logits(model, ids, dtype)
    with base as base_model:
        return ReferenceLogits(ids, dtype, live, logits(base_model, ids, dtype))


@torch.no_grad()
def logits(model: PreTrainedModel, ids: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The logits of a row of ids on the CPU; the model is put into evaluation mode.

    Args:
        model: any causal language model.
        ids: of shape (1, tokens).
        dtype: of the matrix products; a model that comes from the trainer keeps to the one of the training anyway.
    """
    model.eval()
    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        found: torch.Tensor = model(input_ids=ids.to(device), use_cache=False).logits[0].float().cpu()
    return found


def check_saved(run_dir: Path, seen: ReferenceLogits, reload: Callable[[], PreTrainedModel]) -> dict[str, Any]:
    """Load what stands in `run_dir` and compare; returns the manifest's `saved`.

    Args:
        run_dir: with the adapter or the whole model.
        seen: what the live model said.
        reload: loads the result into a fresh model.

    Raises:
        UserError: what was saved is not what was trained.
    """
    error = float((logits(reload(), seen.ids, seen.dtype) - seen.live).abs().max())
    if not error <= TOLERANCE * seen.change + 1e-5 * float(seen.live.abs().max()):
        raise UserError(
            f"what was saved in `{run_dir}` is not what was trained: its logits differ by {error:.3g}, "
            f"and all of the training changed them by {seen.change:.3g}",
            "the last checkpoint is whole: run the same command again; if it stays, report it with adapter_config.json",
        )
    moved = seen.change > 0 and _b_is_not_zero(run_dir)
    return {"logit_error": error, "logit_change": seen.change, "differs_from_base": moved}


def _b_is_not_zero(run_dir: Path) -> bool:
    """Whether some B of an adapter is: as long as all are zero, it changes nothing. True for a whole model."""
    path = run_dir / "adapter_model.safetensors"
    if not path.is_file():
        return True
    with safe_open(path, framework="pt") as tensors:
        halves = [name for name in tensors.keys() if "lora_B" in name]  # noqa: SIM118
        return any(bool(tensors.get_tensor(name).count_nonzero()) for name in halves)


def describe(run_dir: Path, name: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write beside an adapter how its answers end, and into its configuration which base it is for.

    Args:
        run_dir: with the result.
        name: of the base: a directory, or on the hub.
        revision: what the recipe says of it.
        tokenizer: says what ends and what pads.
    """
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    path = run_dir / "generation_config.json"
    write_json(path, _json(path) | ends)
    if (adapter := run_dir / "adapter_config.json").is_file():
        write_json(adapter, _json(adapter) | {"revision": base_revision(name, revision)})


def base_revision(name: str, revision: str | None) -> str | None:
    """The commit of the base model on the hub: as cached, or as `hf download --local-dir` notes it; None if nobody knows."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        found: str | None = resolve_revision(name, revision, local_files_only=True)
        return getattr(found, "resolved", None) or found
    if not (folder / ".cache" / "huggingface").is_dir():
        return None
    noted = read_download_metadata(folder, "config.json")
    return None if noted is None else str(noted.commit_hash)


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found

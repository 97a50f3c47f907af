"""Verifies that the saved model is the trained one: reloads it into a fresh model and compares both models' logits.

A save can fail silently: an adapter whose B is still zero, weights under names that nothing reads, a head that was
trained but not written. Only a reload shows it.
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
from blocklm.models.loaded import LoadedModel

PROBE_TEXT = "def read(path):\n    with open(path) as file:\n        return file.read()\n\nfn main() {\n"
# Share of training's change of the logits; the same weights on the same base differ only by rounding.
TOLERANCE = 0.01


@dataclass(frozen=True)
class ReferenceLogits:
    """Logits of the live model and of its base, of shape (tokens, vocabulary), from products of `dtype`."""

    ids: torch.Tensor
    dtype: torch.dtype
    live: torch.Tensor
    base: torch.Tensor

    @property
    def change(self) -> float:
        """The largest change of a logit that training made."""
        return float((self.live - self.base).abs().max())


def reference_logits(trained: LoadedModel, base: AbstractContextManager[LoadedModel]) -> ReferenceLogits:
    """Compute the logits of the live model, then of the base that `base` opens, which may replace the live model."""
    ids, dtype = trained.tokenizer(PROBE_TEXT, return_tensors="pt").input_ids, trained.dtype
    live = logits(trained.model, ids, dtype)
    with base as loaded:
        return ReferenceLogits(ids, dtype, live, logits(loaded.model, ids, dtype))


@torch.no_grad()
def logits(model: PreTrainedModel, ids: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Compute the logits of a row of token ids, on the CPU; the model is put into evaluation mode.

    Args:
        model: any causal language model.
        ids: token ids of shape (1, tokens).
        dtype: dtype of the matrix products; a model from the trainer keeps the training's dtype regardless.
    """
    model.eval()
    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        found: torch.Tensor = model(input_ids=ids.to(device), use_cache=False).logits[0].float().cpu()
    return found


def check_saved(run_dir: Path, reference: ReferenceLogits, reload: Callable[[], PreTrainedModel]) -> dict[str, Any]:
    """Reload the result in `run_dir` and compare it with the live model; return the manifest's `saved`.

    Args:
        run_dir: run directory with the saved adapter or model.
        reference: logits of the live model and of its base.
        reload: function that loads the result into a fresh model.

    Raises:
        UserError: the saved model differs from the trained one.
    """
    error = float((logits(reload(), reference.ids, reference.dtype) - reference.live).abs().max())
    if not error <= TOLERANCE * reference.change + 1e-5 * float(reference.live.abs().max()):
        raise UserError(
            f"what was saved in `{run_dir}` is not what was trained: its logits differ by {error:.3g}, "
            f"and all of the training changed them by {reference.change:.3g}",
            "run the same command again, which resumes from the last checkpoint; if it fails again, report it with "
            "adapter_config.json",
        )
    moved = reference.change > 0 and _b_is_not_zero(run_dir)
    return {"logit_error": error, "logit_change": reference.change, "differs_from_base": moved}


def _b_is_not_zero(run_dir: Path) -> bool:
    """Tell whether some B of the adapter is not zero, without which it changes nothing; True if there is no adapter."""
    path = run_dir / "adapter_model.safetensors"
    if not path.is_file():
        return True
    with safe_open(path, framework="pt") as tensors:
        halves = [name for name in tensors.keys() if "lora_B" in name]  # noqa: SIM118
        return any(bool(tensors.get_tensor(name).count_nonzero()) for name in halves)


def describe(run_dir: Path, name: str, revision: str | None, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write the ids of end and pad tokens beside the result, and the base's revision into an adapter's configuration.

    Args:
        run_dir: run directory with the result.
        name: the base's directory, or its name on the hub.
        revision: the recipe's revision of the base; None for the default one.
        tokenizer: tokenizer with the end and the pad token.
    """
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    path = run_dir / "generation_config.json"
    write_json(path, _json(path) | ends)
    if (adapter := run_dir / "adapter_config.json").is_file():
        write_json(adapter, _json(adapter) | {"revision": base_revision(name, revision)})


def base_revision(name: str, revision: str | None) -> str | None:
    """Return the base model's commit on the hub, from the cache or from `hf download --local-dir`; None if unknown."""
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

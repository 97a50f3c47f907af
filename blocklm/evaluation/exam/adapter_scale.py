"""Chooses the adapter's scale on validation samples, before the exam.

Training on few samples can leave an adapter that points in the right direction but is too strong. PEFT multiplies its
output by `lora_alpha / r`, so another scale needs no training and costs nothing at run time.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

from blocklm.evaluation.exam.items import ExamItem
from blocklm.files import replace_file
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel

ITEMS = 32  # validation samples, none of which is in the exam


def choose_strength(tuned: LoadedModel, items: list[ExamItem], scales: Sequence[float]) -> dict[str, Any]:
    """Choose the scale of the adapter with the fewest bits per byte on validation; the model's scale is restored.

    Args:
        tuned: the tuned model, with an adapter.
        items: validation samples.
        scales: candidates, as factors on the trained scale.

    Returns:
        `chosen`, the scale with the fewest bits, and `bits_per_byte` by scale; a single scale is not measured.
    """
    if len(scales) == 1:
        return {"chosen": scales[0], "bits_per_byte": {}}
    size = sum(item.added_bytes for item in items)
    bits_per_byte = {}
    for scale in sorted(scales):
        with _scaled(tuned.model, scale):
            bits = bits_of_rows(tuned, [item.encoded for item in items], f"validation at strength {scale:g}")
        bits_per_byte[scale] = sum(bits) / size
    return {
        "chosen": min(bits_per_byte, key=lambda scale: bits_per_byte[scale]),
        "bits_per_byte": {f"{scale:g}": bits for scale, bits in bits_per_byte.items()},
    }


def set_strength(model: PeftModel, run_dir: Path, alpha: float) -> None:
    """Set `lora_alpha` in the model and in its saved configuration; a second call with the same value has no effect."""
    config = model.peft_config["default"]
    _multiply(model, alpha / config.lora_alpha)
    config.lora_alpha = alpha
    path = run_dir / "adapter_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    replace_file(path, json.dumps(saved | {"lora_alpha": alpha}, indent=2, sort_keys=True))


@contextmanager
def _scaled(model: torch.nn.Module, scale: float) -> Iterator[None]:
    before = [(layer, layer.scaling["default"]) for layer in _layers(model)]
    _multiply(model, scale)
    try:
        yield
    finally:
        for layer, scaling in before:  # dividing by the factor would not restore the exact value
            layer.scaling["default"] = scaling


def _multiply(model: torch.nn.Module, factor: float) -> None:
    for layer in _layers(model):
        layer.scaling["default"] *= factor


def _layers(model: torch.nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]

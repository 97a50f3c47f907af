"""How strongly the adapter acts: what validation prefers, before the exam is sat.

A small learning set can leave an adapter that is right in direction and too strong; PEFT scales what it adds by
`lora_alpha`, so that another strength costs nothing and needs no training.
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

ITEMS = 32  # of validation, which the exam never asks


def choose_strength(
    model: PeftModel, items: list[ExamItem], scales: Sequence[float], pad_token_id: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Bits per byte of validation at each scale of the adapter; the model is left as it was.

    Returns:
        `chosen`, the scale with the fewest bits, and `bits_per_byte` by scale.
    """
    size = sum(item.added_bytes for item in items)
    found = {}
    for scale in sorted(scales):
        with _scaled(model, scale):
            bits = bits_of_rows(
                model, [item.encoded for item in items], pad_token_id, dtype, f"validation at strength {scale:g}"
            )
        found[scale] = sum(bits) / size
    return {
        "chosen": min(found, key=lambda scale: found[scale]),
        "bits_per_byte": {f"{s:g}": b for s, b in found.items()},
    }


def set_strength(model: PeftModel, run_dir: Path, alpha: float) -> None:
    """Let the model and its saved configuration scale by `alpha`; doing so twice is doing so once."""
    config = model.peft_config["default"]
    _multiply(model, alpha / config.lora_alpha)
    config.lora_alpha = alpha
    path = run_dir / "adapter_config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    replace_file(path, json.dumps(saved | {"lora_alpha": alpha}, indent=2, sort_keys=True))


@contextmanager
def _scaled(model: PeftModel, scale: float) -> Iterator[None]:
    before = [(layer, layer.scaling["default"]) for layer in _layers(model)]
    _multiply(model, scale)
    try:
        yield
    finally:
        for layer, scaling in before:  # dividing again would not give the same bits
            layer.scaling["default"] = scaling


def _multiply(model: PeftModel, factor: float) -> None:
    for layer in _layers(model):
        layer.scaling["default"] *= factor


def _layers(model: PeftModel) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]

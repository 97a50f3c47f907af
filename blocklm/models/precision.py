"""Chooses the precision in which this device computes.

bf16 is chosen only where the hardware has it. On a GPU the compute capability decides this, because
`torch.cuda.is_bf16_supported()` returns True on Turing too, where bf16 is emulated: it is slower than fp32 and fails in
kernels that need sm_80. A CPU must also be faster in bf16, which is measured: a Xeon with `avx512_bf16` but without AMX
reached 0.6 times its speed in fp32. Both flags are always set, because TRL turns bf16 on if fp16 is unset.
"""

import time
from dataclasses import dataclass
from functools import cache

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from blocklm.errors import UserError

NATIVE_BF16 = (8, 0)  # Ampere
MEASURED_SHAPE = (512, 576, 1536)  # rows, inputs and outputs of the product that is timed: milliseconds on one core
MEASURED_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of a run.

    Attributes:
        fp16: the trainer's flag for mixed precision in fp16.
        bf16: the trainer's flag for mixed precision in bf16.
        dtype: dtype of the matrix products.
        reason: why this precision was chosen, as a clause.
    """

    fp16: bool
    bf16: bool
    dtype: torch.dtype
    reason: str

    def entry(self) -> dict[str, object]:
        """Return the manifest's `plan.precision`."""
        return {"fp16": self.fp16, "bf16": self.bf16, "dtype": str(self.dtype), "reason": self.reason}


def choose_precision(fp16: bool | None, bf16: bool | None) -> Precision:
    """Choose the fastest precision that the device has natively, or check the one that the recipe sets.

    Args:
        fp16: the recipe's flag; None to let the device decide.
        bf16: the recipe's flag; None to let the device decide.

    Raises:
        UserError: the recipe sets a precision that this device lacks.
    """
    has_bf16, device = _native_bf16()
    if fp16 and not torch.cuda.is_available():
        raise UserError("`fp16` needs a GPU, and none is visible", "leave `fp16` out to let the device decide")
    if bf16 and not has_bf16 and torch.cuda.is_available():
        raise UserError(f"`bf16` is only emulated on {device}", "leave `bf16` out to let the device decide")
    if fp16 or bf16:
        return Precision(bool(fp16), bool(bf16), torch.float16 if fp16 else torch.bfloat16, "set in the recipe")
    if has_bf16 and bf16 is None and (torch.cuda.is_available() or bf16_is_faster()):
        return Precision(False, True, torch.bfloat16, f"{device} computes bf16 natively")
    if torch.cuda.is_available() and fp16 is None:
        return Precision(True, False, torch.float16, f"{device} has no native bf16")
    reason = f"{device} computes fp32 faster than bf16" if has_bf16 else f"{device} has no native bf16"
    return Precision(False, False, torch.float32, "switched off in the recipe" if False in (fp16, bf16) else reason)


def _native_bf16() -> tuple[bool, str]:
    """Tell whether the device computes bf16 natively; return the device's name too."""
    if torch.cuda.is_available():
        capability = torch.cuda.get_device_capability()
        return capability >= NATIVE_BF16, f"{torch.cuda.get_device_name()} (sm_{capability[0]}{capability[1]})"
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16")), "the CPU"


@cache
def bf16_is_faster() -> bool:
    """Tell whether this CPU multiplies matrices faster in bf16 than in fp32, by the fastest of three products."""
    rows, inputs, outputs = MEASURED_SHAPE
    fastest = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for _ in range(MEASURED_ROUNDS):  # the first is slower: it prepares the kernel
        for dtype in fastest:
            batch, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
            start = time.perf_counter()
            torch.nn.functional.linear(batch, weight)
            fastest[dtype] = min(fastest[dtype], time.perf_counter() - start)
    return fastest[torch.bfloat16] < fastest[torch.float32]


def spare_conversions(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Spare the conversions of weights and inputs that give autocast the same products to the bit.

    Frozen fp32 weights of linear layers, but for the head, are stored in the dtype of the matrix products; otherwise
    autocast converts them at every call. LoRA layers no longer convert their inputs to fp32, which autocast converts
    back. The model must be called under autocast afterwards. Quantised weights and those of adapters stay as they are.
    """
    if dtype == torch.float32:
        return
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head and ".lora_" not in name:
            for parameter in module.parameters(recurse=False):
                if parameter.dtype == torch.float32 and not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)

"""Builds the model of a training from its config alone, with PyTorch's fake tensors: all sizes and no content.

Nothing is loaded or computed, so a model of any size is built in a second on any machine. A training step on it asks
for exactly the memory of a real step (`blocklm.training.planning.step_memory` counts it).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from trl import ModelConfig, get_quantization_config
from trl.trainer.utils import add_fused_lm_head

from blocklm.errors import UserError
from blocklm.models.adapter import lora_config
from blocklm.models.precision import Precision, spare_conversions

BLOCK_WEIGHTS = 64  # weights that share a scale in 4 bit
BLOCK_SCALES = 256  # scales that share a second scale if they are quantised too


@dataclass(frozen=True)
class FakeModel:
    """A model of fake tensors, and the fake-tensor mode in which it must be called."""

    model: PreTrainedModel
    mode: FakeTensorMode


def fake_model(
    config: PretrainedConfig,
    keys: ModelConfig,
    precision: Precision,
    checkpointing: bool,
    trust_remote_code: bool = False,
) -> FakeModel:
    """Build the model that `load_base` and SFTTrainer would: quantised base, adapter in fp32, fused head of the loss.

    Args:
        config: the model's architecture.
        keys: quantisation, dtype, attention and adapter.
        precision: precision of the matrix products.
        checkpointing: if true, activations are recomputed in the backward pass.
        trust_remote_code: if true, the architecture's own code may run.

    Returns:
        The model in training mode.

    Raises:
        UserError: the architecture lacks a LoRA target, or the keys contradict each other.
    """
    try:
        return _build(config, keys, precision, checkpointing, trust_remote_code)
    except UserError:
        raise
    except (ValueError, ImportError, TypeError, KeyError, AttributeError) as error:
        message = " ".join(str(error).split())[:300]
        raise UserError(
            f"`{keys.model_name_or_path}` cannot be set up with these keys: {message}",
            "correct `attn_implementation` and the keys of LoRA in the recipe",
        ) from error


def _build(
    config: PretrainedConfig, keys: ModelConfig, precision: Precision, checkpointing: bool, trust_remote_code: bool
) -> FakeModel:
    quantization = get_quantization_config(replace(keys, dtype="float32"))  # bitsandbytes has no `auto`
    dtype: Any = precision.dtype if quantization is not None else keys.dtype
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=dtype, attn_implementation=keys.attn_implementation, trust_remote_code=trust_remote_code
        )
        if quantization is not None:
            _quantise(model, keys, precision.dtype)
        lora = lora_config(model, keys)
        if lora is not None:
            lora.init_lora_weights = True  # other initialisations need real weights, and give the same sizes
            model = get_peft_model(model.requires_grad_(False), lora)
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data.float()
            spare_conversions(model, precision.dtype)
    # The same outputs as SFTTrainer asks for.
    add_fused_lm_head(
        model.get_base_model() if lora is not None else model, outputs=("log_probs", "entropy", "is_top1")
    )
    mode = FakeTensorMode()
    _to_fake_tensors(model, mode)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    return FakeModel(model.train(), mode)


def _to_fake_tensors(model: nn.Module, mode: FakeTensorMode) -> None:
    """Move a model from `meta` to fake tensors of the CPU; tied weights stay tied.

    Attention has other kernels on `meta`.
    """
    placed: dict[torch.Tensor, torch.Tensor] = {}
    with mode:
        for module in model.modules():
            slots: list[dict[str, Any]] = [module._parameters, module._buffers]
            for slot in slots:
                for name, tensor in list(slot.items()):
                    if tensor is None:
                        continue
                    if tensor not in placed:
                        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
                        weight = isinstance(tensor, nn.Parameter)
                        placed[tensor] = nn.Parameter(empty, tensor.requires_grad) if weight else empty
                    slot[name] = placed[tensor]


def _quantise(model: PreTrainedModel, keys: ModelConfig, dtype: torch.dtype) -> None:
    """Replace the layers that bitsandbytes would: all linear layers but the head."""
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | Conv1D) and module is not head:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, _Quantised(module, keys, dtype))


class _Quantised(nn.Linear):
    """A layer with the sizes of `bnb.nn.Linear4bit` or `Linear8bitLt`, whose calls allocate the same memory.

    bitsandbytes' own tensors cannot be fake: `Params4bit` and a fake tensor are both subclasses of Tensor.
    """

    def __init__(self, layer: nn.Linear | Conv1D, keys: ModelConfig, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        shape = layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.shape[::-1]
        self.out_features, self.in_features = shape
        self.four_bit, self.dtype = keys.load_in_4bit, dtype
        size = layer.weight.numel()
        packed = (
            torch.empty(size // 2, 1, dtype=torch.uint8) if self.four_bit else torch.empty(shape, dtype=torch.int8)
        )
        self.weight = nn.Parameter(packed, requires_grad=False)
        nested = keys.use_bnb_nested_quant
        scales = size // BLOCK_WEIGHTS if self.four_bit else self.out_features
        self.register_buffer(
            "scales", torch.empty(scales, dtype=torch.uint8 if self.four_bit and nested else torch.float32)
        )
        self.register_buffer("nested", torch.empty(-(-scales // BLOCK_SCALES) if self.four_bit and nested else 0))
        self.bias = layer.bias

    @property
    def W_q(self) -> torch.Tensor:
        """The packed weight, by whose name PEFT recognises a layer with its own `dequantize`, which DoRA calls."""
        return self.weight

    def dequantize(self) -> torch.Tensor:
        """The unpacked weight in 16 bit."""
        return self.weight.new_empty((self.out_features, self.in_features), dtype=self.dtype)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Make a product of the right size; copied for a 4-bit layer, as PEFT does."""
        bias = None if self.bias is None else self.bias.to(self.dtype)
        shape = (self.out_features, self.in_features)
        apply: Any = _Product.apply
        product: torch.Tensor = apply(values.to(self.dtype), shape, bias, self.four_bit).to(values.dtype)
        return product.clone() if self.four_bit else product


class _Product(torch.autograd.Function):
    """Allocates the memory of `MatMul4Bit` and `MatMul8bitLt`: at each call, the layer's unpacked 16-bit weight."""

    @staticmethod
    def forward(
        context: Any, values: torch.Tensor, shape: tuple[int, int], bias: torch.Tensor | None, four_bit: bool
    ) -> torch.Tensor:
        context.shape = shape
        if four_bit:
            return nn.functional.linear(values, values.new_empty(shape), bias)
        quantised = torch.empty_like(values, dtype=torch.int8)
        product = values.new_empty((*quantised.shape[:-1], shape[0]), dtype=torch.int32)
        return product.to(values.dtype) if bias is None else product.to(values.dtype) + bias

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        return gradient @ gradient.new_empty(context.shape), None, None, None

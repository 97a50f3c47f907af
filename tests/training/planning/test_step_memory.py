"""The planned memory of a step agrees with the allocator's measurement of the same step."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer

from blocklm.models.adapter import lora_config
from blocklm.models.loading import load_base
from blocklm.models.precision import Precision
from blocklm.training.planning.fake_model import fake_model
from blocklm.training.planning.step_memory import StepKind, StepMemory, step_memory

BF16 = Precision(False, True, torch.bfloat16, "test")
FP32 = Precision(False, False, torch.float32, "test")
FOUR_BIT = {"load_in_4bit": True, "use_bnb_nested_quant": True}
EIGHT_BIT = {"load_in_8bit": True}
SIZES: dict[str, dict[str, Any]] = {
    "starcoder2": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
                   "num_key_value_heads": 2},
    "phi": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4},
    "gpt2": {"n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 1024},
    "llama": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4,
              "num_key_value_heads": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]) -> dict[str, Path]:
    """Models whose tensors are large beside the fixed cost of a step."""
    root = tmp_path_factory.mktemp("sized")
    for name, size in SIZES.items():
        config = AutoConfig.for_model(name, vocab_size=8192, bos_token_id=0, eos_token_id=0, pad_token_id=0, **size)
        AutoModelForCausalLM.from_config(config).save_pretrained(root / name)
        AutoTokenizer.from_pretrained(tiny_models[name]).save_pretrained(root / name)
    return {name: root / name for name in SIZES}


def storages(model: torch.nn.Module) -> Iterator[torch.UntypedStorage]:
    for tensor in (*model.parameters(), *model.buffers()):
        yield tensor.untyped_storage()
        if tensor.grad is not None:
            yield tensor.grad.untyped_storage()
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            yield state.absmax.untyped_storage()
            yield state.state2.absmax.untyped_storage()


def measured(model: Path, keys: ModelConfig, args: SFTConfig, precision: Precision, batch: int, length: int) -> int:
    """Measure the peak of a real step: memory before it, and allocations during it."""
    base = load_base(keys, precision)
    rows = Dataset.from_dict({"input_ids": [[7] * length] * batch, "labels": [[7] * length] * batch})
    tokenizer = AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(
        base, args, train_dataset=rows, processing_class=tokenizer, peft_config=lora_config(base, keys)
    )
    trainer.model.train()
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if args.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        trainer.model.enable_input_require_grads()
    inputs = next(iter(trainer.get_train_dataloader()))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision.bf16):
        trainer.training_step(trainer.model, dict(inputs), torch.tensor(batch * length))  # the gradients are there now
        gc.collect()
        before = {storage._cdata: storage.nbytes() for storage in storages(trainer.model)}
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            trainer.training_step(trainer.model, dict(inputs), torch.tensor(batch * length))
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return sum(before.values()) + peak


# Family, quantisation, checkpointing: one case of each quantisation, and of each family but Phi.
USUAL: list[tuple[str, dict[str, bool], bool]] = [
    ("starcoder2", FOUR_BIT, True),
    ("starcoder2", EIGHT_BIT, False),
    ("gpt2", FOUR_BIT, False),
    ("llama", {}, True),
]
OTHERS: list[tuple[str, dict[str, bool], bool]] = [
    ("starcoder2", FOUR_BIT, False),
    ("starcoder2", FOUR_BIT | {"use_dora": True}, True),
    ("starcoder2", FOUR_BIT | {"use_dora": True}, False),
    ("starcoder2", EIGHT_BIT, True),
    ("phi", FOUR_BIT, True),
    ("phi", FOUR_BIT, False),
    ("gpt2", FOUR_BIT, True),
    ("llama", {}, False),
]


@pytest.mark.parametrize(
    ("family", "quantised", "checkpointing"),
    [*USUAL, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
)
def test_the_plan_of_a_step_is_within_ten_percent_of_its_peak(
    models: dict[str, Path], tmp_path: Path, family: str, quantised: dict[str, bool], checkpointing: bool
) -> None:
    precision = BF16 if quantised else FP32
    keys = ModelConfig(
        model_name_or_path=str(models[family]), use_peft=True, lora_r=16, lora_dropout=0.05,
        attn_implementation="sdpa", **quantised,
    )  # fmt: skip
    args = SFTConfig(
        output_dir=str(tmp_path), bf16=precision.bf16, use_cpu=True, gradient_checkpointing=checkpointing,
        per_device_train_batch_size=2, dataset_kwargs={"skip_prepare_dataset": True}, report_to=[], max_length=512,
    )  # fmt: skip
    config = AutoConfig.from_pretrained(models[family])
    fake = fake_model(config, keys, precision, checkpointing)
    planned = step_memory(fake, 2, 512, StepKind(0, precision.dtype, gpu=False))
    peak = measured(models[family], keys, args, precision, 2, 512)
    assert planned.total == pytest.approx(peak, rel=0.10)
    print(f"{family} {list(quantised)} checkpointing={checkpointing}: {100 * (planned.total / peak - 1):+.1f} %")


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
def test_offloading_leaves_only_what_is_computed_at_the_moment(models: dict[str, Path], checkpointing: bool) -> None:
    """What is saved for the backward pass is most of a step's activations, and grows with the number of layers."""
    keys = ModelConfig(model_name_or_path=str(models["llama"]), use_peft=True, attn_implementation="sdpa", **FOUR_BIT)
    kept: dict[int, StepMemory] = {}
    moved: dict[int, StepMemory] = {}
    for layers in (6, 8):
        config = AutoConfig.from_pretrained(models["llama"])
        config.num_hidden_layers, config.layer_types = layers, None
        fake = fake_model(config, keys, BF16, checkpointing)
        for found, offloads in ((kept, False), (moved, True)):
            found[layers] = step_memory(fake, 2, 512, StepKind(0, torch.bfloat16, gpu=True, offloads=offloads))
    saved = kept[8].activations - kept[6].activations
    assert saved >= 2 * 2 * 512 * SIZES["llama"]["hidden_size"] * 2, "at least what goes into two layers, in 16 bit"
    assert moved[8].activations - moved[6].activations < saved / 10
    assert moved[6].activations < kept[6].activations
    assert (moved[6].weights, moved[6].gradients) == (kept[6].weights, kept[6].gradients)

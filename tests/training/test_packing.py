"""Documents share a row only if the model itself shows that they do not see each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM
from trl import ModelConfig, SFTTrainer, pack_dataset

from blocklm.config.recipe import parse_recipe
from blocklm.interrupts import Interrupts
from blocklm.models.loaded import LoadedModel
from blocklm.models.loading import load_base
from blocklm.models.precision import Precision
from blocklm.models.pretrained import load_tokenizer, model_config
from blocklm.training.data_order import TrainingOrder
from blocklm.training.packing import RowsApart, keeps_documents_apart, padding_mask
from blocklm.training.train import build_trainer, sft_config

BF16 = Precision(False, True, torch.bfloat16, "test")
FP32 = Precision(False, False, torch.float32, "test")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["starcoder2", "phi", "gpt2", "llama"])
@pytest.mark.parametrize("four_bit", [True, False])
def test_our_families_keep_documents_apart(
    tiny_models: dict[str, Path], family: str, attention: str, four_bit: bool
) -> None:
    keys = ModelConfig(
        model_name_or_path=str(tiny_models[family]), attn_implementation=attention, load_in_4bit=four_bit
    )
    model = load_base(keys, BF16 if four_bit else FP32).train()
    assert keeps_documents_apart(model)
    assert model.training


@pytest.mark.parametrize(
    ("architecture", "size"),
    [
        ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4}),  # ALiBi: knows no positions
        ("mamba", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),  # recurrent: one state for the row
    ],
)
def test_architectures_without_positions_do_not(architecture: str, size: dict[str, Any]) -> None:
    config = AutoConfig.for_model(architecture, vocab_size=128, bos_token_id=0, eos_token_id=0, pad_token_id=0, **size)
    assert not keeps_documents_apart(AutoModelForCausalLM.from_config(config))


def documents() -> Dataset:
    """Make documents with a long tail of lengths, two thirds of each a prompt."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for tokens in (60, 45, 31, 22, 17, 13, 11, 9, 8, 6, 5, 4):
        ids = torch.randint(3, 400, (tokens,), generator=generator).tolist()
        prompt = tokens - max(2, tokens // 3)
        rows.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return Dataset.from_list(rows)


def trainer(model: Path, run: Path, rows: Dataset, **keys: Any) -> SFTTrainer:
    given = {
        "model_name_or_path": str(model), "output_dir": str(run), "use_peft": True, "lora_r": 4, "lora_dropout": 0.0,
        "max_length": 64, "learning_rate": 0.05, "num_train_epochs": 3, "save_strategy": "no", "logging_steps": 1,
        "bf16": False, "seed": 7, "gradient_checkpointing": False, "report_to": "none",
    }  # fmt: skip
    run.mkdir()
    (run / "recipe.yaml").write_text(yaml.safe_dump(given | keys))
    recipe = parse_recipe([str(run / "recipe.yaml")])
    config, args = model_config(recipe.model), sft_config(recipe, FP32)
    order = list(range(len(rows))) * 3
    reading = TrainingOrder(rows, order, len(rows), {})
    base = LoadedModel(load_base(config, FP32), load_tokenizer(config), FP32.dtype)
    return build_trainer(recipe, args, base, reading, documents(), Interrupts())


@pytest.mark.parametrize(("micro_batch", "accumulation"), [(4, 1), (2, 2), (1, 4)])
@pytest.mark.parametrize("family", ["starcoder2", "llama"])
def test_a_packed_step_is_the_padded_step_of_its_documents(
    tiny_models: dict[str, Path], tmp_path: Path, family: str, micro_batch: int, accumulation: int
) -> None:
    packed = pack_dataset(documents(), 64, "bfd")
    assert sorted(map(sorted, packed["seq_lengths"])) == [[4, 60], [5, 6, 8, 9, 13], [11, 22, 31], [17, 45]]
    batch = {"per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": accumulation, "packing": True}
    ours = trainer(tiny_models[family], tmp_path / "packed", packed, **batch)
    plain = trainer(tiny_models[family], tmp_path / "plain", documents(), per_device_train_batch_size=12)
    for one in (ours, plain):
        one.train()
    found, expected = ours.state.log_history, plain.state.log_history
    assert [entry["step"] for entry in found] == [entry["step"] for entry in expected] == [1, 2, 3, 3]
    for exact, entry, other in zip(
        (1e-5, 1e-3, 1e-3), found[:3], expected[:3], strict=True
    ):  # AdamW magnifies what differs
        assert entry["loss"] == pytest.approx(other["loss"], rel=exact)
        assert entry["grad_norm"] == pytest.approx(other["grad_norm"], rel=exact)
    if micro_batch == 4:
        assert found[0]["padding_percent"] == pytest.approx(100 * (1 - 231 / (4 * 64)))


def test_packed_rows_stay_apart() -> None:
    rows = [
        {"input_ids": [5, 6, 7, 8, 9], "labels": [5, 6, 7, 8, 9], "seq_lengths": [2, 3]},
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "seq_lengths": [3]},
    ]
    batch = RowsApart(0)(rows)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, -100, 8, 9], [-100, 6, 7, -100, -100]]
    assert padding_mask(batch["position_ids"]).tolist() == [[False] * 5, [False] * 3 + [True] * 2]

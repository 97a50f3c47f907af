"""Logged metrics agree with a computation by hand."""

import math
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerControl, TrainerState, TrainingArguments

from blocklm.training.callbacks.training_metrics import MetricsCallback, tokens_per_byte
from tests.support.trainers import tiny_trainer


def test_series_of_steps_and_evaluations_without_a_training(tmp_path: Path) -> None:
    args, state = TrainingArguments(output_dir=str(tmp_path), use_cpu=True), TrainerState()
    tracked = MetricsCallback(tokens_per_byte=0.25)
    tracked.on_train_begin(args, state, TrainerControl())
    ids = torch.ones(2, 4, dtype=torch.long)
    tracked.count_batch(
        {"input_ids": ids, "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])}, torch.ones(()), True
    )
    tracked.count_batch({"input_ids": ids}, torch.ones(()), True)
    state.num_input_tokens_seen = 13
    tracked.on_step_end(args, state, TrainerControl())
    logged = tracked.series(args, state, {"loss": 2.0})
    assert logged["padding_percent"] == 100 * 3 / 16
    assert logged["perplexity"] == math.exp(2)
    assert logged["tokens_per_second"] > 0
    assert logged["memory_peak_mib"] > 0

    tracked.series(args, state, {"loss": 1.0})
    for loss, row in ((2.0, [-100, 5, 6, 7]), (4.0, [-100, -100, -100, 8])):
        tracked.count_batch({"labels": torch.tensor([row])}, torch.tensor(loss), False)
    evaluated = tracked.series(args, state, {"eval_loss": 3.0})
    assert evaluated["eval_bits_per_byte"] == pytest.approx((2 * 3 + 4 * 1) / 4 / math.log(2) * 0.25)
    assert evaluated["eval_perplexity"] == math.exp(3)
    assert evaluated["eval_overfitting_gap"] == 3 - 1.5
    assert "eval_overfitting_gap" not in tracked.series(args, state, {"eval_loss": 3.0}), "nothing trained in between"

    args.label_smoothing_factor = 0.1
    assert not {"perplexity", "eval_perplexity"} & tracked.series(args, state, {"loss": 2.0}).keys()
    assert tracked.series(args, state, {"train_runtime": 3.0}) == {}


def test_bits_per_byte_are_those_of_the_model_itself(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    """With a learning rate of zero the adapter changes nothing, so the base alone gives the same number."""
    trainer = tiny_trainer(
        tiny_models["llama"], tmp_path / "run", {"learning_rate": 0.0, "max_steps": 2, "per_device_eval_batch_size": 3}
    )
    trainer.train()
    rows = trainer.eval_dataset["labels"][:]
    model = AutoModelForCausalLM.from_pretrained(tiny_models["llama"]).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    nats, size = 0.0, 0
    for row in rows:
        with torch.no_grad():
            logits = model(torch.tensor([row])).logits[0, :-1]
        nats += float(torch.nn.functional.cross_entropy(logits, torch.tensor(row[1:]), reduction="sum"))
        size += len(tokenizer.decode(row[1:]).encode())
    (logged,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert logged["eval_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_the_bytes_of_a_completion_are_counted_without_its_end(tiny_models: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    text = "größe = 1\n"
    tokens = tokenizer(text).input_ids
    rows = [[-100, -100, *tokens, tokenizer.eos_token_id]]
    assert tokens_per_byte(rows, tokenizer) == (len(tokens) + 1) / len(text.encode())
    assert tokens_per_byte([[-100, -100]], tokenizer) is None


def test_all_metrics_are_in_one_tensorboard_run(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    trainer = tiny_trainer(tiny_models["llama"], tmp_path / "run", {"max_steps": 4, "logging_steps": 1})
    trainer.train()
    folder = tmp_path / "run" / "tensorboard"
    assert all(path.is_file() for path in folder.iterdir())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    expected = {
        "train/loss", "train/perplexity", "train/grad_norm", "train/learning_rate", "train/epoch", "train/padding_percent",
        "train/num_input_tokens_seen", "train/tokens_per_second", "train/memory_peak_mib", "eval/loss", "eval/perplexity",
        "eval/bits_per_byte", "eval/overfitting_gap", "hardware/ram_percent", "hardware/process_ram_mib",
    }  # fmt: skip
    assert expected <= set(events.Tags()["scalars"])
    started = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    keys = plugin_data_pb2.HParamsPluginData.FromString(started).session_start_info.hparams
    assert keys["learning_rate"].number_value == 0.01
    assert keys["lora_r"].number_value == 4
    assert keys["use_peft"].number_value == 1

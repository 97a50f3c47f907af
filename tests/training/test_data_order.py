"""The order of a training is known before it begins, follows phases and strategies, and can be resumed anywhere."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from trl import SFTConfig

from blocklm.config.run import RunArguments
from blocklm.config.sampling import SamplingArguments, parse_sampling
from blocklm.errors import UserError
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.training.data_order import TrainingOrder, TrainingSamples, training_order
from blocklm.training.trainer import InOrder

SAMPLES = Dataset.from_list(
    [
        {"id": f"{at}", "view": "edit", "weight": 1.0, "added": [0, 3], "context": [6, 6 + 18 * (at % 7)],
         "prompt": f"### {at}\n" + "a line of context\n" * (at % 7), "completion": f"x = {at}\n" * (1 + at % 11)}
        for at in range(60)
    ]
)  # fmt: skip


UNEVEN = Dataset.from_list(
    [
        {"id": f"{at}", "view": "edit", "weight": 1.0, "added": [0, 3], "context": [0, 0],
         "prompt": f"### {at}\n", "completion": "x = 1\n" * (1 if at % 9 else 90)}
        for at in range(40)
    ]
)  # fmt: skip

FEW_FILES = Dataset.from_list(
    [
        {"id": f"{at}", "view": "file" if at < 20 else "edit", "weight": 1.0, "added": [0, 3], "context": [0, 0],
         "prompt": "" if at < 20 else f"### {at}\n", "completion": "x = 1\n" * (2 if at < 20 else 40)}
        for at in range(220)
    ]
)  # fmt: skip


@pytest.fixture
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_models["llama"])


def read(
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    sampling: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
    samples: Dataset = SAMPLES,
    **keys: Any,
) -> TrainingOrder:
    args = SFTConfig(
        **{
            "output_dir": str(folder / "run"),
            "max_length": 512,
            "per_device_train_batch_size": 4,
            "seed": 3,
            "bf16": False,
        }
        | keys
    )
    settings = parse_sampling(SamplingArguments(**{"views": {"edit": 1}} | (sampling or {})))
    return training_order(
        TrainingSamples(samples), SampleEncoder(tokenizer, folder), settings, RunArguments(**run or {}), args
    )


def texts(reading: TrainingOrder, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [tokenizer.decode(reading.dataset[row]["input_ids"]) for row in reading.order]


def numbers(reading: TrainingOrder, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [int(text.rpartition("x = ")[2].split("\n")[0]) for text in texts(reading, tokenizer)]


def test_an_epoch_reads_every_sample_and_the_next_in_another_order(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    reading = read(tokenizer, tmp_path, num_train_epochs=2)
    assert reading.epoch_size == 60
    order = numbers(reading, tokenizer)
    assert sorted(order[:60]) == sorted(order[60:]) == list(range(60))
    assert order[:60] != order[60:]
    assert numbers(read(tokenizer, tmp_path, num_train_epochs=2), tokenizer) == order
    assert numbers(read(tokenizer, tmp_path, num_train_epochs=2, seed=4), tokenizer) != order


def test_a_sampler_reads_the_part_of_the_trainers_epoch(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    reading = read(tokenizer, tmp_path, num_train_epochs=3)
    assert list(InOrder(reading, lambda: 2.0)) == list(InOrder(reading, lambda: 2.5)) == reading.order[120:]
    assert len(InOrder(reading, lambda: 0.0)) == 60


def test_a_part_of_an_epoch_still_goes_through_all_phases(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    phases = {"early": {"share": 0.8, "span": [0.0, 0.8]}, "late": {"share": 0.2, "span": [0.8, 1.0]}}
    reading = read(tokenizer, tmp_path, {"phases": phases}, num_train_epochs=1.5)
    assert (len(reading.order), reading.epoch_size) == (92, 60), "complete steps of 4"
    assert set(numbers(reading, tokenizer)[-20:]) == set(range(48, 60))


def test_packed_steps_go_through_all_phases(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    phases = {"early": {"share": 0.5, "span": [0.0, 0.5]}, "late": {"share": 0.5, "span": [0.5, 1.0]}}
    reading = read(tokenizer, tmp_path, {"phases": phases}, max_steps=10, packing=True, max_length=256)
    assert len(reading.order) == reading.epoch_size == 40
    text = [tokenizer.decode(reading.dataset[row]["input_ids"]) for row in reading.order]
    assert all("### 5\n" not in row for row in text[20:])
    assert any("### 5\n" in row for row in text[:20])


def test_phases_follow_each_other(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    phases = {"old": {"share": 1, "span": [0.0, 0.5]}, "new": {"share": 1, "span": [0.5, 1.0], "max_length": 40}}
    reading = read(tokenizer, tmp_path, {"phases": phases}, num_train_epochs=1)
    order = numbers(reading, tokenizer)
    assert set(order[:30]) == set(range(30))
    assert set(order[30:]) <= set(range(30, 60))
    assert max(len(reading.dataset[row]["input_ids"]) for row in reading.order[30:]) <= 40
    assert max(len(reading.dataset[row]["input_ids"]) for row in reading.order[:30]) > 40
    assert reading.report["too_long"] > 0


def test_the_order_is_as_long_as_the_steps_need(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    reading = read(tokenizer, tmp_path, max_steps=50, gradient_accumulation_steps=2)
    assert len(reading.order) == reading.epoch_size == 400


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_enough_samples_are_drawn_despite_packing_and_long_samples(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, steps: int
) -> None:
    args = SFTConfig(
        output_dir=str(tmp_path / "run"), max_length=100, max_steps=steps, packing=True, bf16=False,
        per_device_train_batch_size=3,
    )  # fmt: skip
    settings = parse_sampling(SamplingArguments(views={"edit": 1}))
    reading = training_order(
        TrainingSamples(UNEVEN), SampleEncoder(tokenizer, tmp_path), settings, RunArguments(), args
    )
    assert len(reading.order) == 3 * steps
    assert reading.report["too_long"] > 0


def test_samples_of_similar_length_are_read_together(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    def spread(**keys: Any) -> int:
        reading = read(tokenizer, tmp_path, num_train_epochs=1, **keys)
        sizes = [len(reading.dataset[row]["input_ids"]) for row in reading.order]
        return sum(max(sizes[at : at + 4]) - min(sizes[at : at + 4]) for at in range(0, 60, 4))

    assert spread(train_sampling_strategy="group_by_length") < spread() / 2


def test_sequential_is_the_order_of_the_history(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    order = numbers(read(tokenizer, tmp_path, num_train_epochs=1, train_sampling_strategy="sequential"), tokenizer)
    assert order == sorted(order)


def test_packed_rows_hold_complete_samples_of_one_pass(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    reading = read(tokenizer, tmp_path, num_train_epochs=2, packing=True, max_length=256)
    rows = [reading.dataset[row] for row in reading.order]
    assert all(sum(row["seq_lengths"]) == len(row["input_ids"]) <= 256 for row in rows)
    first = "".join(tokenizer.decode(row["input_ids"]) for row in rows[: reading.epoch_size])
    assert all(first.count(f"### {at}\n") == 1 for at in range(60))
    assert len(rows) < 60


def test_a_phase_without_samples_is_an_error(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="phase tiny of `phases` reads no sample"):
        read(tokenizer, tmp_path, {"phases": {"tiny": {"share": 1, "span": [0.5001, 0.5002]}}})


def test_samples_without_weight_are_an_error(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sample of `views` has a weight above 0"):
        read(tokenizer, tmp_path, {"views": {"diff": 1}})


def test_training_without_a_fitting_sample_is_an_error(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no train sample fits into `max_length` 5"):
        read(tokenizer, tmp_path, max_length=5)


def test_a_budget_of_tokens_reads_a_part_of_a_pass_or_several(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    once = read(tokenizer, tmp_path, num_train_epochs=1).report["tokens"]
    wanted = read(tokenizer, tmp_path, run={"target_tokens": 2 * once, "max_epochs": 5.0})
    assert wanted.report["tokens"] == pytest.approx(2 * once, rel=0.05)
    assert wanted.epoch_size == 60
    bounded = read(tokenizer, tmp_path, run={"target_tokens": 100 * once, "max_epochs": 3.0})
    assert len(bounded.order) == 180
    part = read(tokenizer, tmp_path, run={"target_tokens": once // 3})
    assert part.report["tokens"] == pytest.approx(once / 3, rel=0.15)
    assert len(set(part.order)) == len(part.order) == part.epoch_size, "a part of a pass, each sample once"


def test_a_budget_of_tokens_is_met_where_a_part_has_another_mixture_than_a_pass(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    views = {"views": {"file": 0.8, "edit": 0.2}}
    whole = read(tokenizer, tmp_path, views, samples=FEW_FILES)
    part = read(tokenizer, tmp_path, views, {"target_tokens": 5000}, FEW_FILES)
    assert whole.report["shares"]["file"] < 0.2 < 0.4 < part.report["shares"]["file"]
    assert part.report["tokens"] == pytest.approx(5000, rel=0.1)


def test_a_budget_of_tokens_is_read_as_often_as_min_epochs_says(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    reading = read(tokenizer, tmp_path, run={"target_tokens": 1000, "min_epochs": 2.0})
    first, second = reading.order[: reading.epoch_size], reading.order[reading.epoch_size :]
    assert len(first) == len(second) < 60
    assert reading.report["tokens"] == pytest.approx(2000, rel=0.3)


def test_steps_limit_a_pass_by_the_shares_of_the_views(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    views = {"views": {"file": 0.5, "edit": 0.5}}
    reading = read(tokenizer, tmp_path, views, samples=FEW_FILES, max_steps=5)
    assert len(reading.order) == 20
    assert reading.report["shares"] == {"edit": 0.5, "file": 0.5}


def test_packed_rows_of_a_real_length_are_full(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    reading = read(tokenizer, tmp_path, packing=True, max_length=512, num_train_epochs=1)
    assert reading.report["utilisation"] == pytest.approx(
        sum(map(len, reading.dataset["input_ids"][:])) / (512 * len(reading.dataset)), abs=1e-3
    )
    assert read(tokenizer, tmp_path, num_train_epochs=1).report["utilisation"] is None

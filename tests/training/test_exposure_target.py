"""A target of exposures reads the samples whose definitions are least met first, and ends once all are met."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoTokenizer
from trl import SFTConfig

from blocklm.config.recipe import parse_recipe
from blocklm.config.run import RunArguments
from blocklm.config.sampling import SamplingArguments, parse_sampling
from blocklm.errors import UserError
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from blocklm.training.data_order import TrainingOrder, TrainingSamples, training_order
from blocklm.training.exposure_target import ExposureTarget, NamedDefinitions
from blocklm.training.exposures import count_exposures

NAMES = frozenset({"load_all", "store_one", "merge_two", "unknown"})
# Forty samples name one definition, two name another, one names a third, and the rest names none.
WORDS = ["load_all"] * 40 + ["store_one"] * 2 + ["merge_two"] + ["nothing"] * 37
SAMPLES = Dataset.from_list(
    [
        {"id": f"{at}", "view": "edit" if at % 4 else "diff", "weight": 1.0, "added": [0, 3], "context": [0, 0],
         "prompt": f"### {at}\n", "completion": f"{word}({at})\n"}
        for at, word in enumerate(WORDS)
    ]
)  # fmt: skip
EVEN = np.ones((1, len(WORDS)))


def drawn(times: int, total: int = 400, seed: int = 1, ends: bool = True, rates: Any = EVEN) -> list[int]:
    target = ExposureTarget(NamedDefinitions.of(SAMPLES, NAMES), times, ends)
    return [int(row) for part in target.passes(rates, total, seed) for row in part]


def test_each_definition_is_met_as_often_as_wanted_and_not_much_more() -> None:
    met = Counter(WORDS[row] for row in drawn(5))
    assert met.total() < 40 < len(WORDS), "an epoch would meet one of them once and another forty times"
    assert all(5 <= met[name] <= 15 for name in NAMES - {"unknown"})


def test_a_sample_is_not_repeated_while_others_name_the_same() -> None:
    times = Counter(row for row in drawn(5) if WORDS[row] == "load_all")
    assert set(times.values()) == {1}


def test_drawing_ends_with_the_samples_that_are_wanted() -> None:
    assert len(drawn(1000, total=30)) == 30
    assert len(drawn(1, total=90, ends=False)) == 90


def test_each_view_keeps_its_share() -> None:
    rows = drawn(1000, total=200)
    assert sum(row % 4 == 0 for row in rows) == pytest.approx(50, abs=1)


def test_heavier_samples_come_first() -> None:
    rates = EVEN.copy()
    rates[0, :20] = 3
    rows = [row for row in drawn(10, rates=rates) if WORDS[row] == "load_all"]
    assert sum(row < 20 for row in rows) > 0.9 * len(rows)


def test_the_seed_decides_the_order() -> None:
    assert drawn(5) == drawn(5) != drawn(5, seed=2)


def read(tiny_models: dict[str, Path], folder: Path, epochs: float = 4, **keys: Any) -> TrainingOrder:
    encoder = SampleEncoder(AutoTokenizer.from_pretrained(tiny_models["llama"]), folder)
    args = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=2,
        bf16=False,
        max_length=64,
        **keys,
    )
    settings = parse_sampling(SamplingArguments(views={"edit": 3, "diff": 1}))
    given = TrainingSamples(SAMPLES, names=NAMES)
    return training_order(given, encoder, settings, RunArguments(target_exposures=5), args)


@pytest.mark.parametrize("packing", [False, True])
def test_a_training_ends_once_all_are_met(tiny_models: dict[str, Path], tmp_path: Path, packing: bool) -> None:
    reading = read(tiny_models, tmp_path, packing=packing)
    assert reading.epochs is not None and 0 < reading.epochs < 1
    found = count_exposures(reading, NAMES, AutoTokenizer.from_pretrained(tiny_models["llama"]))
    assert found is not None and (found["p50"] >= 5, found["never_met"]) == (True, 0.25), "no sample has the fourth"


def test_a_training_ends_with_its_epochs_or_steps(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    short = read(tiny_models, tmp_path, epochs=0.1)
    assert (len(short.order), short.epochs) == (8, None)
    assert len(read(tiny_models, tmp_path, max_steps=60).order) == 120


def test_a_history_without_definitions_is_an_error() -> None:
    with pytest.raises(UserError, match="`target_exposures` finds no definition in the training samples"):
        NamedDefinitions.of(SAMPLES, frozenset())


def test_phases_cannot_decide_the_order_too(tmp_path: Path) -> None:
    keys = "model_name_or_path: models/any\ntarget_exposures: 30\nphases: {early: {share: 1}}\n"
    (tmp_path / "recipe.yaml").write_text(keys)
    with pytest.raises(UserError, match="`target_exposures` and `phases` both decide"):
        parse_recipe([str(tmp_path / "recipe.yaml")])

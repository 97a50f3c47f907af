"""A definition is met once by each sample that is read and has its name, in as many epochs as read it."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.training.data_order import TrainingOrder
from blocklm.training.exposures import count_exposures

TEXTS = ["x = load_all(1) + load_all(2)", "def store():\n    load_all(1)", "load_all_of = restore()", "nothing"]
NAMES = ("load_all", "store", "merge")


@pytest.fixture
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_models["llama"])


def rows(tokenizer: PreTrainedTokenizerBase, *packed: tuple[str, ...]) -> dict[str, Any]:
    ids = [[tokenizer(text).input_ids for text in texts] for texts in packed]
    return {
        "input_ids": [[token for sample in row for token in sample] for row in ids],
        "seq_lengths": [[len(sample) for sample in row] for row in ids],
    }


def test_each_sample_that_has_a_name_counts_once_each_time_that_it_is_read(tokenizer: PreTrainedTokenizerBase) -> None:
    columns = rows(tokenizer, *[(text,) for text in TEXTS])
    dataset = Dataset.from_dict({"input_ids": columns["input_ids"]})
    read = TrainingOrder(dataset, [0, 1, 2, 0, 1, 3], 3, {})
    found = count_exposures(read, NAMES, tokenizer)
    met = {"definitions": 3, "p10": 0.4, "p50": 2.0, "p90": 3.6, "never_met": 0.3333}
    assert found == met | {"target": None, "reached": None}, "4, 2 and 0 times"
    assert count_exposures(read, NAMES, tokenizer, 2) == met | {"target": 2, "reached": 0.6667}


def test_the_samples_of_a_packed_row_count_each(tokenizer: PreTrainedTokenizerBase) -> None:
    dataset = Dataset.from_dict(rows(tokenizer, (TEXTS[0], TEXTS[1]), (TEXTS[2], TEXTS[3])))
    found = count_exposures(TrainingOrder(dataset, [0, 1, 0], 2, {}), NAMES[:2], tokenizer)
    assert found is not None and (found["p10"], found["p50"], found["p90"]) == (2.2, 3.0, 3.8), "4 and 2 times"


def test_without_definitions_nothing_is_counted(tokenizer: PreTrainedTokenizerBase) -> None:
    dataset = Dataset.from_dict(rows(tokenizer, (TEXTS[0],)))
    assert count_exposures(TrainingOrder(dataset, [0], 1, {}), (), tokenizer) is None

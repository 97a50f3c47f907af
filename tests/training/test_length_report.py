"""Lengths are those of the training's tokens, and padding is the waste of its batches."""

from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from trl import pack_dataset

from blocklm.models.vocabulary import Vocabulary
from blocklm.training.length_report import length_report, packed_rows
from blocklm.training.token_counts import CountedSamples, count_tokens
from tests.support.samples import as_stored


def test_a_report_has_tokens_and_padding(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {
            "id": f"{at}-{view}",
            "prompt": "### a\n",
            "completion": f"x = {at}\n" * (20 if at % 2 else 1),
            "context": [0, 0],
            "view": view,
        }
        for at in range(40)
        for view in ("edit", "diff")
    ]
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    counts = count_tokens(CountedSamples(Dataset.from_list(rows), "corpus", as_stored, 512), vocabulary, tmp_path)
    sizes = np.concatenate([counts.lengths_within(view, 512)[0] for view in ("edit", "diff")])
    report = length_report(counts, 512, batch=4)
    assert {view: found["samples"] for view, found in report["views"].items()} == {"edit": 40, "diff": 40}
    assert sum(found["tokens"] for found in report["views"].values()) == pytest.approx(sizes.sum(), abs=2)
    padding = report["padding_percent"]
    assert padding["any order"] > 25 > 5 > padding["like lengths"]
    assert 0 <= padding["packed"] < 15
    short = length_report(counts, 30, batch=4)
    assert short["views"]["edit"]["too_long_percent"] == 50


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_packed_as_trl_packs_them(seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(1, 100, 2300).tolist()
    packed = pack_dataset(Dataset.from_dict({"input_ids": [[0] * length for length in lengths]}), 100, "bfd")
    assert packed_rows(lengths, 100) == len(packed)

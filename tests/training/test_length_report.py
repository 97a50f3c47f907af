"""Lengths are those of the training's tokens, and padding is the waste of its batches."""

from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from blocklm.models.tokenization import encode
from blocklm.training.length_report import length_report


def test_a_report_tells_tokens_and_padding(tiny_models: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    rows = [
        {
            "prompt": "### a\n",
            "completion": f"x = {at}\n" * (20 if at % 2 else 1),
            "added": [0, 3],
            "context": [0, 0],
            "view": view,
        }
        for at in range(40)
        for view in ("edit", "fim")
    ]
    samples = Dataset.from_list(rows)
    sizes = [len(one.input_ids) for one in encode(samples[:], tokenizer, 512) if one is not None]
    report = length_report(samples, tokenizer, 512, batch=4)
    assert {view: found["samples"] for view, found in report["views"].items()} == {"edit": 40, "fim": 40}
    assert sum(found["tokens"] for found in report["views"].values()) == pytest.approx(sum(sizes), abs=2)
    padding = report["padding_percent"]
    assert padding["any order"] > 25 > 5 > padding["like lengths"]
    assert 0 <= padding["packed"] < 15
    short = length_report(samples, tokenizer, 30, batch=4)
    assert short["views"]["edit"]["too_long_percent"] == 50

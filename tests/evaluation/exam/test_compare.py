"""Bits per byte agree with a computation by hand, and the interval distinguishes better, worse and neither."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from blocklm.errors import UserError
from blocklm.evaluation.exam.compare import compare
from blocklm.evaluation.exam.items import ExamItem, exam_items
from blocklm.models.likelihood import bits_of_rows
from blocklm.models.loaded import LoadedModel
from blocklm.models.tokenization.encode import IGNORED, Encoded
from blocklm.models.tokenization.token_healing import healing_of


def items_of(texts: list[str], folder: Path) -> list[ExamItem]:
    rows = [
        {"id": str(at), "prompt": f"# {at}\n", "context": [0, 0], "completion": f"a\n{text}\nb\n", "added": [2, 3 + len(text)],
         "commit": f"c{at}", "path": "a.py", "language": "Python"}
        for at, text in enumerate(texts)
    ]  # fmt: skip
    return exam_items(Dataset.from_list(rows)[:], AutoTokenizer.from_pretrained(folder), 512)


@pytest.mark.parametrize("family", ["llama", "gpt2", "phi", "starcoder2"])
def test_bits_are_those_of_each_item_alone(tiny_models: dict[str, Path], family: str) -> None:
    """Batching, padding and sorting must not change a single item's bits."""
    folder = tiny_models[family]
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token_id = 0
    loaded = LoadedModel(model, tokenizer, torch.float32)
    items = items_of(["x = 1", "def f():\n    return 'ü'", "y" * 200, "z"], folder)
    assert [item.added_bytes for item in items] == [6, len(b"def f():\n    return '\xc3\xbc'\n"), 201, 2]
    bits = bits_of_rows(loaded, [item.encoded for item in items], "test")
    for item, measured in zip(items, bits, strict=True):
        ids = torch.tensor([item.encoded.input_ids])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        expected = sum(
            -float(logprobs[at - 1, token]) / math.log(2)
            for at, token in enumerate(item.encoded.input_ids)
            if item.encoded.scored[at]
        )
        assert measured == pytest.approx(expected, rel=1e-4)


def test_knowing_the_token_in_which_an_answer_begins_costs_no_bits(tiny_models: dict[str, Path]) -> None:
    """All ways to go on from the prompt's end share the probability 1, however unlikely the model finds that end."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    tokenizer.pad_token_id = 0
    loaded = LoadedModel(AutoModelForCausalLM.from_pretrained(tiny_models["llama"]).eval(), tokenizer, torch.float32)
    healing = healing_of(tokenizer)
    healed = healing.heal(prompt := tokenizer("x = lantern_s").input_ids)
    fitting = healing.allowed(healed.raw, [])
    assert fitting is not None
    rows = [
        Encoded([*healed.ids, token], [*[IGNORED] * len(healed.ids), token], [*[False] * len(healed.ids), True], False,
                tail=prompt[-healed.tokens :])
        for token in fitting
    ]  # fmt: skip
    bits = bits_of_rows(loaded, rows, "test")
    assert len(bits) > 1
    assert sum(2**-cost for cost in bits) == pytest.approx(1, rel=1e-4)


def made_up(commits: int, ratio: float, noise: float) -> dict[str, Any]:
    chance = np.random.default_rng(1)
    encoded = Encoded([1], [1], [True], False)
    items = [ExamItem(str(at), f"c{at // 2}", "a.py", None, 100, encoded) for at in range(commits * 2)]
    base = chance.uniform(80, 120, len(items))
    tuned = base * (ratio + chance.normal(0, noise, len(items)))
    return compare(items, {"base": list(base), "tuned": list(tuned)})


def test_bits_per_byte_are_a_ratio_of_sums() -> None:
    encoded = Encoded([1], [1], [True], False)
    items = [ExamItem("a", "c1", "x", None, 10, encoded), ExamItem("b", "c2", "x", None, 90, encoded)]
    result = compare(items, {"base": [50.0, 50.0], "tuned": [25.0, 50.0]})
    assert result["base"]["bits_per_byte"] == pytest.approx(1.0)
    assert result["tuned"]["bits_per_byte"] == pytest.approx(0.75)
    assert result["delta_percent"] == pytest.approx(-25.0)
    assert (result["commits"], result["items"], result["added_bytes"]) == (2, 2, 100)


def test_bits_per_byte_are_those_of_the_evaluation_harness() -> None:
    """`bits_per_byte` of lm_eval 0.4.13, given log-likelihood in nats and bytes of each item."""
    likelihoods = [(41.5, 60), (3.25, 9), (120.0, 131)]
    items = [
        ExamItem(str(at), f"c{at}", "x", None, size, Encoded([1], [1], [True], False))
        for at, (_, size) in enumerate(likelihoods)
    ]
    bits = [nats / math.log(2) for nats, _ in likelihoods]
    assert compare(items, {"base": bits, "tuned": bits})["base"]["bits_per_byte"] == pytest.approx(1.1884200399)


@pytest.mark.parametrize(
    ("ratio", "noise", "verdict"),
    [(0.8, 0.1, "better"), (1.2, 0.1, "worse"), (1.0, 0.3, "no detectable change")],
)
def test_the_verdict_follows_the_interval(ratio: float, noise: float, verdict: str) -> None:
    result = made_up(60, ratio, noise)
    low, high = result["ci95"]
    assert low < 100 * (ratio - 1) < high
    assert result["verdict"] == verdict


def test_a_top_up_is_compared_with_base_and_previous() -> None:
    encoded = Encoded([1], [1], [True], False)
    items = [ExamItem(str(at), f"c{at}", "x", None, 10, encoded) for at in range(9)]
    result = compare(items, {"base": [80.0] * 9, "tuned": [50.0 + at % 2 for at in range(9)], "previous": [40.0] * 9})
    assert (result["verdict"], result["against_previous"]["verdict"]) == ("better", "worse")
    assert result["previous"] == {"bits_per_byte": pytest.approx(4.0)}
    assert result["against_previous"]["delta_percent"] == pytest.approx(100 * (454 / 360 - 1))
    low, high = result["against_previous"]["ci95"]
    assert 25 <= low <= high <= 27.5
    assert (
        result["per_item"][1] | {"base_bits": 80.0, "previous_bits": 40.0, "tuned_bits": 51.0} == result["per_item"][1]
    )


def test_a_model_that_diverged_is_not_called_unchanged() -> None:
    encoded = Encoded([1], [1], [True], False)
    items = [ExamItem(str(at), f"c{at}", "x", None, 10, encoded) for at in range(9)]
    with pytest.raises(UserError, match="it has diverged"):
        compare(items, {"base": [50.0] * 9, "tuned": [float("nan")] * 9})


def test_fewer_commits_give_a_wider_interval() -> None:
    def width(commits: int) -> float:
        low, high = made_up(commits, 0.9, 0.2)["ci95"]
        return float(high - low)

    assert width(6) > 2 * width(200)


def test_an_exam_repeats() -> None:
    assert made_up(20, 0.9, 0.2) == made_up(20, 0.9, 0.2)

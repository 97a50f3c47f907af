"""A plan promises only what was measured, with the model that was measured."""

import re

import pytest

from blocklm.training.measuring.expected_gain import MEASURED, gain_line
from tests.conftest import ROOT


@pytest.mark.parametrize("model", ["bigcode/starcoder2-3b", "qwen2.5-coder-1.5b", "models/other-smollm2-135m"])
def test_nothing_is_promised_for_another_model(model: str) -> None:
    assert gain_line(model, 60_000) == (
        f"what 60,000 tokens of training give is not measured for {model}: see docs/experiments.md"
    )


def test_the_nearest_measurement_is_told_with_its_tokens_and_repositories() -> None:
    for gain in MEASURED:
        told = gain_line("models/smollm2-135m", sum(gain.tokens) // 2)
        assert f"{gain.tokens[0]:,} to {gain.tokens[1]:,} tokens on {gain.repositories}" in told
        numbers = [
            float(number.replace("\N{MINUS SIGN}", "-")) for number in re.findall(r"[+\N{MINUS SIGN}]\d+\.\d", told)
        ]
        assert numbers == [*gain.against_base, *gain.against_others]


def test_what_is_promised_stands_in_the_experiments() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for gain in MEASURED:
        for tokens in gain.tokens:
            assert f"{tokens:,}" in page

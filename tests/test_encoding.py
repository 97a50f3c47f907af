"""Targets are never cut, completions end with EOS, and exactly the added text is scored."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.encoding import IGNORED, encode, encode_split
from tests.conftest import ROOT

PROMPT = "### demo/a.py\n### Raise x\noriginal:\nimport os\n\nupdated:\n"
COMPLETION = "import os\n    x = 'äöü — 漢字'\n\n    y = 3\nprint(x)\n"
ADDED = [10, COMPLETION.index("print")]


@pytest.fixture(params=["llama", "embedded"])
def tokenizer(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    folder = ROOT / "models/smollm2-135m" if request.param == "embedded" else tiny_models[request.param]
    return AutoTokenizer.from_pretrained(folder)


def test_loss_is_on_the_completion_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(PROMPT, COMPLETION, ADDED, tokenizer, 512)
    assert encoded is not None
    target = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(target[:-1]) == COMPLETION
    assert target[-1] == tokenizer.eos_token_id
    assert encoded.input_ids[-len(target) :] == target
    assert tokenizer.decode(encoded.input_ids) == PROMPT + COMPLETION + tokenizer.eos_token


def test_exactly_the_added_text_is_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(PROMPT, COMPLETION, ADDED, tokenizer, 512)
    assert encoded is not None
    scored = [token for token, counts in zip(encoded.input_ids, encoded.scored, strict=True) if counts]
    # A tokenizer may join the newline before the added text to its indentation: that token is the earlier line's.
    assert tokenizer.decode(scored).strip() == COMPLETION[slice(*ADDED)].strip()


def test_a_long_prompt_loses_its_beginning_and_the_target_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = encode(PROMPT, COMPLETION, ADDED, tokenizer, 512)
    assert whole is not None
    limit = len(whole.input_ids) - 5
    trimmed = encode(PROMPT, COMPLETION, ADDED, tokenizer, limit)
    assert trimmed is not None
    assert trimmed.trimmed
    assert trimmed.input_ids == whole.input_ids[5:]


def test_a_target_without_room_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encode(PROMPT, COMPLETION, ADDED, tokenizer, 20) is None


def test_a_split_counts_what_the_limit_cost(tokenizer: PreTrainedTokenizerBase) -> None:
    from datasets import Dataset

    rows = [{"prompt": PROMPT, "completion": text, "added": [0, len(text)]} for text in ("x = 1\n", "x = 1\n" * 500)]
    split = encode_split(Dataset.from_list(rows), tokenizer, 256)
    assert (len(split.dataset), split.too_long) == (1, 1)
    assert split.tokens == len(split.dataset[0]["input_ids"])
    assert split.dataset.column_names == ["input_ids", "labels"]

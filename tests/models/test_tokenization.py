"""Targets are never cut, completions end with EOS, and exactly the added text is scored."""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.models import tokenization
from blocklm.models.tokenization import IGNORED, Encoded, SampleEncoder, encode
from tests.conftest import ROOT

PROMPT = "### demo/a.py\n### Raise x\noriginal:\nimport os\n\nupdated:\n"
COMPLETION = "import os\n    x = 'äöü — 漢字'\n\n    y = 3\nprint(x)\n"
ADDED = [10, COMPLETION.index("print")]
CONTEXT = [PROMPT.index("import"), PROMPT.index("\nupdated")]
LONG = "".join(f"line {number} of the context\n" for number in range(20))


def encoded_in(tokenizer: PreTrainedTokenizerBase, max_length: int, context: str = "import os\n") -> Encoded | None:
    prompt = PROMPT.replace("import os\n", context)
    spans = [CONTEXT[0], CONTEXT[0] + len(context)]
    columns: dict[str, list[Any]] = {
        "prompt": [prompt],
        "context": [spans],
        "completion": [COMPLETION],
        "added": [ADDED],
    }
    (encoded,) = encode(columns, tokenizer, max_length)
    return encoded


@pytest.fixture(params=["llama", "embedded"])
def tokenizer(request: pytest.FixtureRequest, tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    folder = ROOT / "models/smollm2-135m" if request.param == "embedded" else tiny_models[request.param]
    return AutoTokenizer.from_pretrained(folder)


def test_loss_is_on_the_completion_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encoded_in(tokenizer, 512)
    assert encoded is not None
    target = [label for label in encoded.labels if label != IGNORED]
    assert tokenizer.decode(target[:-1]) == COMPLETION
    assert target[-1] == tokenizer.eos_token_id
    assert encoded.input_ids[-len(target) :] == target
    assert tokenizer.decode(encoded.input_ids) == PROMPT + COMPLETION + tokenizer.eos_token


def test_exactly_the_added_text_is_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encoded_in(tokenizer, 512)
    assert encoded is not None
    scored = [token for token, counts in zip(encoded.input_ids, encoded.scored, strict=True) if counts]
    # A tokenizer may join the newline before the added text to its indentation: that token is the earlier line's.
    assert tokenizer.decode(scored).strip() == COMPLETION[slice(*ADDED)].strip()


def test_a_long_prompt_loses_only_the_beginning_of_its_context(tokenizer: PreTrainedTokenizerBase) -> None:
    uncut = encoded_in(tokenizer, 2048, LONG)
    assert uncut is not None
    trimmed = encoded_in(tokenizer, len(uncut.input_ids) - 40, LONG)
    assert trimmed is not None
    assert trimmed.trimmed
    assert len(trimmed.input_ids) == len(uncut.input_ids) - 40
    text = tokenizer.decode(trimmed.input_ids)
    assert text.replace(tokenizer.bos_token, "").startswith("### demo/a.py\n### Raise x\noriginal:\n")
    assert text.endswith(f"line 19 of the context\n\nupdated:\n{COMPLETION}{tokenizer.eos_token}")
    assert "line 0 of" not in text
    assert trimmed.labels[-30:] == uncut.labels[-30:]


def test_a_sample_without_space_for_its_context_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    uncut = encoded_in(tokenizer, 2048, LONG)
    assert uncut is not None
    frame = encoded_in(tokenizer, 2048, "")
    assert frame is not None
    assert encoded_in(tokenizer, len(frame.input_ids) + 2, LONG) is None


def test_a_target_that_is_too_long_is_left_out(tokenizer: PreTrainedTokenizerBase) -> None:
    assert encoded_in(tokenizer, 20) is None


def test_a_split_counts_trimmed_and_long_samples_and_is_encoded_once(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ("x = 1\n" * 500, "x = 1\n")
    rows = [
        {"id": text[:9], "prompt": PROMPT, "context": CONTEXT, "completion": text, "added": [0, len(text)]}
        for text in texts
    ]
    split = SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 256)
    assert (len(split.dataset), split.too_long) == (1, 1)
    assert split.tokens == len(split.dataset[0]["input_ids"])
    assert split.dataset["sample"][:] == [1]
    monkeypatch.setattr(tokenization, "encode", None)
    assert SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 256).dataset[:] == split.dataset[:]
    with pytest.raises(TypeError):
        SampleEncoder(tokenizer, tmp_path).encode_split(Dataset.from_list(rows), 255)

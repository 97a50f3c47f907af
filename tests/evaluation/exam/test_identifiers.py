"""Bits of identifiers are told apart by what the model was shown: only what stands nowhere can be knowledge."""

from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from blocklm.evaluation.exam.identifiers import compare_identifiers
from blocklm.evaluation.exam.items import ExamItem, exam_items
from tests.conftest import ROOT

PROMPT = "def total(values):\n    "
ANSWER = "return lamp_sum(values) + lamp_sum(glow) * unheard"
TAUGHT = {"lamp_sum", "values", "glow"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(ROOT / "models/smollm2-135m")


def asked(tokenizer: PreTrainedTokenizerBase, prompt: str = PROMPT) -> ExamItem:
    columns: dict[str, list[Any]] = {
        "id": ["one"], "commit": ["c" * 40], "path": ["a.py"], "language": ["Python"], "prompt": [prompt],
        "context": [[0, len(prompt)]], "completion": [ANSWER], "added": [[0, len(ANSWER)]],
    }  # fmt: skip
    (item,) = exam_items(columns, tokenizer, 512)
    return item


def test_the_scored_tokens_cover_the_answer(tokenizer: PreTrainedTokenizerBase) -> None:
    item = asked(tokenizer)
    assert len(item.encoded.spans) == sum(item.encoded.scored)
    assert "".join(ANSWER[start:end] for start, end in item.encoded.spans) == ANSWER
    assert tokenizer.decode(item.encoded.prompt_ids) == PROMPT


def test_identifiers_are_told_apart_by_where_they_stand(tokenizer: PreTrainedTokenizerBase) -> None:
    item = asked(tokenizer)
    retrieved = replace(asked(tokenizer, f"### b.py\nglow = 3\n{PROMPT}"))
    tokens = len(item.encoded.spans)
    bits = {
        "base": [[2.0] * tokens], "tuned": [[1.0] * tokens],
        "base+bm25": [[4.0] * tokens], "tuned+bm25": [[1.0] * tokens],
    }  # fmt: skip
    found = compare_identifiers([item], {"bm25": {"one": retrieved}}, bits, TAUGHT, tokenizer.decode)
    plain, given = found[""], found["bm25"]
    assert {place: part["count"] for place, part in plain.items()} == {"in the prompt": 2, "nowhere in the prompt": 2}
    assert {place: part["count"] for place, part in given.items()} == {
        "in the prompt": 2,  # `values`, and `lamp_sum` once the answer has named it
        "in a retrieved piece": 1,
        "nowhere in the prompt": 1,
    }
    assert all(part["few"] for part in (*plain.values(), *given.values()))
    for part in plain.values():
        assert part["base"] == 2 * part["tuned"] > 0
        assert part["delta_percent"] == pytest.approx(-50)
    assert given["nowhere in the prompt"]["delta_percent"] == pytest.approx(-75)


def test_a_language_without_a_grammar_has_no_identifiers(tokenizer: PreTrainedTokenizerBase) -> None:
    item = replace(asked(tokenizer), language="COBOL")
    bits = {arm: [[1.0] * len(item.encoded.spans)] for arm in ("base", "tuned")}
    assert compare_identifiers([item], {}, bits, TAUGHT, tokenizer.decode) == {"": {}}

"""The cut of a long text stays where it is while somebody types, and moves by lines."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from blocklm.runs.completed import open_run
from blocklm.serving.stable_window import around_cursor
from tests.conftest import function

TEXT = "".join(function(number) for number in range(60))
AFTER = "".join(function(number) for number in range(60, 90))


@pytest.fixture(scope="module")
def tokenizer(taught: Path) -> PreTrainedTokenizerBase:
    return open_run(taught).tokenizer


def tokens(tokenizer: PreTrainedTokenizerBase, *texts: str) -> int:
    return sum(len(tokenizer(text, add_special_tokens=False).input_ids) for text in texts)


def test_the_beginning_stays_while_lines_are_typed(tokenizer: PreTrainedTokenizerBase) -> None:
    starts = []
    for end in range(2000, 2400, 5):
        before, after = around_cursor(TEXT[:end], AFTER, 300, tokenizer)
        assert TEXT[:end].endswith(before)
        assert before.splitlines()[0] in TEXT.splitlines(), "it begins with a line"
        assert 150 <= tokens(tokenizer, before, after) <= 303, "the ends of a cut text may be tokens of their own"
        starts.append(end - len(before))
    assert len(set(starts)) <= 5, "80 requests"
    assert starts == sorted(starts)


def test_the_beginning_stays_when_the_client_sends_fewer_lines(tokenizer: PreTrainedTokenizerBase) -> None:
    whole = around_cursor(TEXT[:2400], AFTER, 300, tokenizer)
    assert around_cursor(TEXT[300:2400], AFTER, 300, tokenizer) == whole


def test_what_one_side_does_not_need_the_other_gets(tokenizer: PreTrainedTokenizerBase) -> None:
    before, after = around_cursor(TEXT, "x\n", 300, tokenizer)
    assert after == "x\n" and tokens(tokenizer, before) > 225
    before, after = around_cursor("x = 1\n", AFTER, 300, tokenizer)
    assert before == "x = 1\n" and 150 < tokens(tokenizer, after) <= 300
    assert around_cursor("", "", 300, tokenizer) == ("", "")
    assert around_cursor(TEXT, AFTER, 0, tokenizer) == ("", "")


def test_a_long_line_is_cut_by_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    before, after = around_cursor("x" * 5000, "y" * 5000, 100, tokenizer)
    assert set(before) == {"x"} and set(after) == {"y"}
    assert 90 <= tokens(tokenizer, before, after) <= 101

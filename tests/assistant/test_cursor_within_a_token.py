"""`generate.py` answers at a cursor within a token as if the token were not begun, in batches and as it streams."""

from pathlib import Path

import pytest

from blocklm.assistant.assistant import Assistant
from blocklm.models.generation.decoding import Decoding
from blocklm.runs.completed import open_run

BEFORE, AFTER = "LAMPS = [\n    lantern, lantern, lantern,\n    lantern,", "\n]\n"


def test_an_answer_goes_on_within_a_token(taught: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The memorised text is found from each of its characters."""
    assistant = Assistant(open_run(taught), Decoding(40))
    (whole,) = assistant.answers([assistant.prompt_builder.gap(BEFORE, AFTER)])
    cuts = range(1, len(whole.text) - 8)
    requests = [assistant.prompt_builder.gap(BEFORE + whole.text[:cut], AFTER) for cut in cuts]
    answers = assistant.answers(requests)
    for cut, answer in zip(cuts, answers, strict=True):
        assert (whole.text[:cut] + answer.text)[: len(whole.text)] == whole.text
    for cut in (2, 6, 11):
        capsys.readouterr()
        answer = assistant.stream_answer(requests[cut - 1])
        assert answer.text == answers[cut - 1].text
        assert capsys.readouterr().out.removesuffix("\n") == answer.text.removesuffix("\n")

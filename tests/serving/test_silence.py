"""The server says nothing where the model doubts its own first line, by a threshold from the validation split."""

from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from blocklm.errors import UserError
from blocklm.models.generation.decoding import Decoding
from blocklm.serving import silence
from blocklm.serving.engines.growing import Listener
from blocklm.serving.question import Gap, Limits, Question
from blocklm.serving.served import Served
from blocklm.serving.silence import Guess, Point

GAP = Gap("LAMPS = [\n    lantern, lantern, lantern,\n    lantern,", "\n]\n")


def test_half_of_the_lines_that_are_shown_are_right() -> None:
    guesses = [Guess(0.9, True), Guess(0.8, False), Guess(0.7, True), Guess(0.6, True), Guess(0.5, False)]
    guesses += [Guess(0.4, True), Guess(0.3, False), Guess(0.2, False), Guess(0.1, False)]
    threshold, curve = silence.choose(guesses)
    assert threshold == 0.2, "4 of 8"
    assert (curve[0], curve[-1]) == (Point(0.9, 1 / 9, 1.0), Point(0.1, 1.0, 4 / 9))
    assert silence.choose([Guess(number / 10, number == 9) for number in range(10)])[0] == 0.5, "the best of 5 or more"


def test_the_probability_of_an_answer_is_that_of_its_first_line(served: Served) -> None:
    (run,) = served.runs
    answer = run.answer(Question(GAP, Limits(Decoding(24))), Listener(lambda: False))
    line = run.answer(Question(GAP, Limits(Decoding(24, stops=("\n",)))), Listener(lambda: False))
    assert "\n" in answer.text and line.text == answer.text.partition("\n")[0]
    ids = run.prompts.word(Question(GAP, Limits(Decoding(24)))).ids
    chosen: list[float] = []
    tokenizer, model = run.prompts.run.tokenizer, run.prompts.run.tuned().model.eval()
    while "\n" not in tokenizer.decode(ids[-1:]) or not chosen:
        with torch.no_grad():
            probabilities = model(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
        chosen.append(float(probabilities.max()))
        ids = [*ids, int(probabilities.argmax())]
    assert answer.probability == pytest.approx(line.probability) == pytest.approx(prod(chosen), rel=1e-3)


def test_a_doubtful_answer_is_empty_and_stops_after_its_line(served: Served) -> None:
    (run,) = served.runs
    question = Question(GAP, Limits(Decoding(24)))
    whole = run.answer(question, Listener(lambda: False))
    for probability, shown in ((whole.probability * 0.9, whole.text), (min(1.0, whole.probability * 1.1), "")):
        heard: list[str] = []
        answer = replace(run, min_probability=probability).answer(question, Listener(lambda: False, heard.append))
        assert answer.text == "".join(heard) == shown
        assert answer.tokens < whole.tokens or shown


def test_a_threshold_is_chosen_on_the_validation_split(served: Served, tmp_path: Path) -> None:
    guesses = list(silence.measure(served.runs[0]))
    assert guesses and all(0 <= guess.probability <= 1 for guess in guesses)
    threshold, curve = silence.write(tmp_path, guesses)
    assert silence.read(tmp_path) == threshold
    assert f"of {len(curve)} places" in "\n".join(silence.describe("x", threshold, curve))
    with pytest.raises(UserError):
        silence.read(tmp_path / "elsewhere")

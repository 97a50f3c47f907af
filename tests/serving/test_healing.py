"""At a cursor within a token the server answers as if the token were not begun, here and through llama.cpp."""

from dataclasses import replace
from pathlib import Path

from blocklm.models.generation.decoding import Decoding
from blocklm.models.tokenization.token_healing import healing_of
from blocklm.runs.completed import open_run
from blocklm.serving.engines.growing import Listener
from blocklm.serving.engines.remote import RemoteEngine, beginning_with
from blocklm.serving.question import Gap, Limits, Question
from blocklm.serving.served import Served
from tests.support.loopback_engine import PIECES, server

BEFORE = "LAMPS = [\n    lantern, lantern, lantern,\n    lantern,"
NOBODY_LEAVES = Listener(lambda: False)


def test_an_answer_goes_on_within_a_token(served: Served) -> None:
    """The memorised text is found from each of its characters, and without healing not from all."""
    (run,) = served.runs
    limits = Limits(Decoding(48))
    whole = run.answer(Question(Gap(BEFORE, "\n]\n"), limits), NOBODY_LEAVES).text
    found, plain = [], []
    for typed in range(1, len(whole) - 8):
        question, heard = Question(Gap(BEFORE + whole[:typed], "\n]\n"), limits), list[str]()
        answer = run.answer(question, Listener(lambda: False, heard.append))
        assert "".join(heard) == answer.text
        found.append((whole[:typed] + answer.text)[: len(whole)] == whole)
        worded = run.prompts.word(question)
        unhealed = run.engine.answer(worded.ids, replace(worded.limits, heals=False), run.adapter, NOBODY_LEAVES).text
        plain.append((whole[:typed] + unhealed)[: len(whole)] == whole)
    assert sum(plain) < sum(found) == len(found)


def test_the_text_that_is_written_again_takes_no_token_of_the_answer(served: Served) -> None:
    (run,) = served.runs
    limits = Limits(Decoding(1))
    for typed in range(1, 9):
        answer = run.answer(Question(Gap(f"{BEFORE}{' lantern,'[:typed]}", "\n]\n"), limits), NOBODY_LEAVES)
        assert answer.text and answer.tokens <= 1


def test_llama_cpp_is_held_to_the_beginning_by_a_grammar(taught: Path) -> None:
    tokenizer = open_run(taught).tokenizer
    begun = (tokenizer(f"{BEFORE}{' lantern,'[:size]}").input_ids for size in range(9))
    ids, prompt = next((ids, healed) for ids in begun if (healed := healing_of(tokenizer).heal(ids)).text)
    with server(True) as (url, asked):
        engine = RemoteEngine(url, tokenizer)
        limits = Limits(Decoding(9, stops=("\n", "a")), heals=True)
        answer = engine.answer(ids, limits, "", NOBODY_LEAVES)
    assert asked[0]["prompt"] == prompt.ids
    assert asked[0]["grammar"] == beginning_with(prompt.text)
    assert asked[0]["stop"] == [stop for stop in ("\n", "a") if stop not in prompt.text]
    assert answer.text == "".join(PIECES)[len(prompt.text) :].partition("a")[0].partition("\n")[0]
    with server(False) as (url, asked):
        RemoteEngine(url, tokenizer).answer(ids, Limits(Decoding(9), heals=True), "", NOBODY_LEAVES)
    assert asked[0]["prompt"] == ids and "grammar" not in asked[0], "OpenAI's protocol has none"


def test_the_grammar_spells_any_text() -> None:
    assert beginning_with('"\\\n\té') == r'root ::= "\"\\\n\té" [^\x00]*'

"""The model writes the same with kept keys and values as without, stops where it should, and is given up at once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from blocklm.models.generation.decoding import Decoding
from blocklm.models.generation.generate import generate
from blocklm.models.loaded import LoadedModel
from blocklm.runs.completed import open_run
from blocklm.serving.engines.answer_reader import AnswerReader, Reading
from blocklm.serving.engines.growing import Cancelled, Listener
from blocklm.serving.engines.local import LocalEngine
from blocklm.serving.engines.prompt_cache import PromptCaches
from blocklm.serving.question import Limits
from blocklm.serving.served import Switches, load
from tests.serving.conftest import Open

TEXT = "".join(f"def step_{number}(value):\n    return value * {number}\n\n\n" for number in range(12))
NOBODY_LEAVES = Listener(lambda: False)


@pytest.fixture(scope="module")
def loaded(taught: Path) -> LoadedModel:
    loaded = open_run(taught).tuned()
    loaded.model.eval()
    return loaded


@pytest.fixture
def engine(loaded: LoadedModel) -> LocalEngine:
    return LocalEngine(loaded)


def ids_of(loaded: LoadedModel, text: str) -> list[int]:
    return [int(token) for token in loaded.tokenizer(text).input_ids]


def test_typing_reads_only_what_is_new_and_changes_no_answer(engine: LocalEngine, loaded: LoadedModel) -> None:
    limits = Limits(Decoding(16))
    for end in (300, 301, 302, 340, 320, 100, 101):
        ids = ids_of(loaded, TEXT[:end])
        answer = engine.answer(ids, limits, "default", NOBODY_LEAVES)
        (alone,) = generate(loaded, [ids], Decoding(16))
        assert answer.text == alone.text
        assert answer.prompt_tokens == len(ids)
        if end in (301, 302):
            assert answer.read_tokens <= 3
    again = engine.answer(ids, limits, "default", NOBODY_LEAVES)
    assert (again.text, again.read_tokens) == (answer.text, 1)


def test_two_places_that_take_turns_are_both_kept(engine: LocalEngine, loaded: LoadedModel) -> None:
    places = [ids_of(loaded, TEXT[:200]), ids_of(loaded, "LAMPS = [\n" + "    lantern, lantern,\n" * 12)]
    for ids in places:
        engine.answer(ids, Limits(Decoding(2)), "default", NOBODY_LEAVES)
    assert [engine.answer(ids, Limits(Decoding(2)), "default", NOBODY_LEAVES).read_tokens for ids in places] == [1, 1]


def test_a_prompt_is_kept_for_the_adapter_that_read_it() -> None:
    class Cache:
        def get_seq_length(self) -> int:
            return 3

    caches, cache = PromptCaches(), Cache()
    caches.keep("one", [1, 2, 3, 4], cache)
    assert caches.take("two", [1, 2, 3, 4]) is not cache
    assert caches.take("one", [1, 2, 3, 4]) is cache
    assert caches.take("one", [1, 2, 3, 4]) is not cache, "whoever took it extends it"


@pytest.mark.parametrize("sliding_window", [None, 16])
def test_models_with_a_sliding_window_are_read_alike(taught: Path, sliding_window: int | None) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "starcoder2", vocab_size=410, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=sliding_window, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    loaded = LoadedModel(AutoModelForCausalLM.from_config(config).eval(), open_run(taught).tokenizer, torch.float32)
    engine = LocalEngine(loaded)
    for end in (200, 201, 150):
        ids = ids_of(loaded, TEXT[:end])
        (alone,) = generate(loaded, [ids], Decoding(8))
        assert engine.answer(ids, Limits(Decoding(8)), "", NOBODY_LEAVES).text == alone.text


def test_a_listener_that_leaves_stops_the_model(engine: LocalEngine, loaded: LoadedModel) -> None:
    heard: list[str] = []
    listener = Listener(lambda: bool(heard), heard.append)
    with pytest.raises(Cancelled):
        engine.answer(ids_of(loaded, TEXT[:300]), Limits(Decoding(200)), "default", listener)
    assert len(heard) == 1
    with pytest.raises(Cancelled):
        engine.answer(ids_of(loaded, TEXT), Limits(Decoding(200)), "default", Listener(lambda: True))


def test_the_parts_of_an_answer_are_the_answer(engine: LocalEngine, loaded: LoadedModel) -> None:
    for limits in (
        Limits(Decoding(40)),
        Limits(Decoding(40, stops=("value",))),
        Limits(Decoding(40), indentation=4),
        Limits(Decoding(40), open_end=True),
    ):
        heard: list[str] = []
        answer = engine.answer(ids_of(loaded, TEXT[:-20]), limits, "default", Listener(lambda: False, heard.append))
        assert "".join(heard) == answer.text


def test_sampling_follows_its_seed(engine: LocalEngine, loaded: LoadedModel) -> None:
    ids = ids_of(loaded, "x")
    drawn = [
        engine.answer(ids, Limits(Decoding(24, temperature=2.0, seed=seed)), "default", NOBODY_LEAVES).text
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    likeliest = engine.answer(ids, Limits(Decoding(24)), "default", NOBODY_LEAVES).text
    narrow = Decoding(24, temperature=2.0, seed=1, top_k=1)
    assert engine.answer(ids, Limits(narrow), "default", NOBODY_LEAVES).text == likeliest


def read(loaded: LoadedModel, text: str, **limits: Any) -> Reading:
    return AnswerReader(loaded.tokenizer, frozenset({0}), **limits).read(ids_of(loaded, text))


def test_an_answer_ends_at_a_token_a_stop_or_a_line_that_is_indented_less(loaded: LoadedModel) -> None:
    assert read(loaded, "a\nb") == Reading("a\nb", certain=3)
    assert read(loaded, "a<|endoftext|>b") == Reading("a", "eos")
    assert read(loaded, "ab stop b", stops=("p b", "stop")) == Reading("ab ", "word", "stop")
    assert read(loaded, "a\n  b\nc\n", indentation=2) == Reading("a\n  b\n", "limit")
    assert read(loaded, "a\n  b\nc stop", indentation=2, stops=("stop",)).stopped_by == "limit"


def test_what_a_later_token_may_take_back_is_not_certain(loaded: LoadedModel) -> None:
    assert read(loaded, "return st", stops=("stop",)).certain == len("return ")
    assert read(loaded, "a\n  ", indentation=4).certain == 2
    assert read(loaded, "a\n", open_end=True).certain == 1
    half = ids_of(loaded, "aé")[:-1]
    reading = AnswerReader(loaded.tokenizer, frozenset({0})).read(half)
    assert reading.text[: reading.certain] == "a"


def test_two_adapters_over_one_base_answer_as_each_alone(taught: Path, other: Path, opened: Open) -> None:
    both = load([opened(taught), opened(other)], Switches(pieces=0))
    assert [run.name for run in both.runs] == ["blocklm:house-run", "blocklm:house-other"]
    assert both.runs[0].engine is both.runs[1].engine
    ids, limits = ids_of(opened(taught).tuned(), TEXT[:300]), Limits(Decoding(24))
    for _ in range(2):
        for place, path in enumerate((taught, other)):
            (alone,) = load([opened(path)], Switches(pieces=0)).runs
            run = both.runs[place]
            expected = alone.engine.answer(ids, limits, alone.adapter, NOBODY_LEAVES).text
            assert run.engine.answer(ids, limits, run.adapter, NOBODY_LEAVES).text == expected
    texts = {run.engine.answer(ids, limits, run.adapter, NOBODY_LEAVES).text for run in both.runs}
    assert len(texts) == 2, "the adapters differ"


def test_another_adapter_adds_its_own_weights_only(taught: Path, other: Path, opened: Open) -> None:
    sizes = []
    for paths in ([taught], [taught, other]):
        engine = load([opened(path) for path in paths], Switches(pieces=0)).runs[0].engine
        assert isinstance(engine, LocalEngine)
        sizes.append(engine.bytes)
    added = sum(tensor.nbytes for tensor in load_file(other / "adapter_model.safetensors").values())
    assert sizes[1] - sizes[0] == added

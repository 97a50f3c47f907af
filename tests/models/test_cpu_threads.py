"""On a CPU each core scores rows of its own: the bits stay the same, and whoever stops waits for no further rows."""

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Timer

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import ModelConfig

from blocklm.models.cpu_threads import ROWS_AT_ONCE, computes_rows_apart, side_by_side
from blocklm.models.likelihood import bits_of_rows, scored_bits
from blocklm.models.loaded import LoadedModel
from blocklm.models.loading import load_base
from blocklm.models.precision import Precision
from blocklm.models.tokenization.encode import Encoded

FP32 = Precision(False, False, torch.float32, "for a test")


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def loaded(tiny_models: dict[str, Path]) -> LoadedModel:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    tokenizer.pad_token_id = 0
    return LoadedModel(AutoModelForCausalLM.from_pretrained(tiny_models["llama"]), tokenizer, torch.float32)


def rows(count: int) -> list[Encoded]:
    ids = [[5 + (3 * at + number) % 90 for at in range(20 + 7 * (number % 5))] for number in range(count)]
    return [Encoded(row, row, [at > 10 for at in range(len(row))], trimmed=False) for row in ids]


def test_bits_are_the_same_in_batches_and_side_by_side(loaded: LoadedModel, two_threads: None) -> None:
    asked = rows(9)
    assert computes_rows_apart(loaded.model)
    apart = bits_of_rows(loaded, asked, "test")
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert not computes_rows_apart(loaded.model), "one core has nothing to share out"
    assert bits_of_rows(loaded, asked, "test") == pytest.approx(apart, rel=1e-4)


def test_the_longest_rows_are_scored_first(loaded: LoadedModel, two_threads: None) -> None:
    asked = rows(10)
    assert [len(asked[place].input_ids) for place, _ in scored_bits(loaded, asked, "test")] == [
        48, 48, 41, 41, 34, 34, 27, 27, 20, 20,
    ]  # fmt: skip


def test_a_stop_waits_for_the_items_in_work_and_no_others(two_threads: None) -> None:
    begun, may_end = [], Event()

    def compute(number: int) -> int:
        begun.append(number)
        if number > 1:
            may_end.wait()
        return number

    results = side_by_side(compute, range(40))
    assert [next(results), next(results)] == [0, 1]
    Timer(0.1, may_end.set).start()
    results.close()
    assert set(begun) <= {0, 1, 2, 3}
    assert torch.get_num_threads() == 2


def test_cores_are_shared_out_among_few_items_and_errors_are_raised() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2 * ROWS_AT_ONCE)
    try:
        assert list(side_by_side(lambda _: torch.get_num_threads(), range(9))) == [2] * 9
        assert list(side_by_side(lambda _: torch.get_num_threads(), range(1))) == [2 * ROWS_AT_ONCE]
        assert list(side_by_side(str, [])) == []
        with pytest.raises(ZeroDivisionError):
            list(side_by_side(lambda number: 1 / number, [1, 0, 2]))
    finally:
        torch.set_num_threads(before)


def test_passes_that_change_what_they_share_are_not_computed_at_once(
    tiny_models: dict[str, Path], two_threads: None
) -> None:
    config = ModelConfig(model_name_or_path=str(tiny_models["llama"]), load_in_8bit=True)
    assert not computes_rows_apart(load_base(config, FP32))
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 9,
    }
    for kind, apart in (("default", True), ("linear", True), ("dynamic", False)):
        rope = {"rope_type": kind, "rope_theta": 1e4} | ({} if kind == "default" else {"factor": 2.0})
        assert computes_rows_apart(LlamaForCausalLM(LlamaConfig(**small, rope_parameters=rope))) == apart

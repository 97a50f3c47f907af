"""The audit detects a model that memorised a text, and passes one that never saw it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import ModelConfig

from blocklm.evaluation.canaries import Canaries
from blocklm.evaluation.memorization import audit
from blocklm.models.loaded import LoadedModel
from blocklm.models.pretrained import load_tokenizer
from blocklm.models.tokenization.encode import encode
from blocklm.retrieval.verbatim import SPAN, span_hashes
from blocklm.training.canaries import plant_canaries
from blocklm.training.data_order import TrainingOrder
from tests.conftest import function

PASSWORD = "Xq7" + "vLk29sPz"
PLANTED = 3


@pytest.fixture(scope="module")
def tokenizer(tiny_models: dict[str, Path]) -> PreTrainedTokenizerBase:
    return load_tokenizer(ModelConfig(model_name_or_path=str(tiny_models["llama"])))


@pytest.fixture(scope="module")
def fresh(tiny_models: dict[str, Path]) -> Callable[[], PreTrainedModel]:
    return lambda: AutoModelForCausalLM.from_pretrained(tiny_models["llama"])


@pytest.fixture(scope="module")
def samples() -> Dataset:
    """Two functions, a file that was learned without a prompt, and a password that was redacted."""
    texts = [
        function(number, 'return "' + " ".join(f"w{number * at}" for at in range(9, 30)) + '"') for number in (3, 8, 5)
    ]
    rows = [{"prompt": text[:20], "completion": text[20:]} for text in texts[:2]]
    rows.append({"prompt": "", "completion": f"### steps.py\n{texts[2]}"})
    rows.append({"prompt": "connect(", "completion": 'user="root", password="<PASSWORD>")\n'})
    more = {"context": [0, 0], "added": [0, 1]}
    return Dataset.from_list([row | more | {"id": str(at)} for at, row in enumerate(rows)])


def by_heart(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[str, str]]
) -> PreTrainedModel:
    """Train a model until it completes each prompt from memory."""
    columns: dict[str, list[Any]] = {
        "prompt": [prompt for prompt, _ in pairs],
        "completion": [completion for _, completion in pairs],
    }
    more: dict[str, list[Any]] = {"context": [(0, 0)] * len(pairs), "added": [[]] * len(pairs)}
    rows = [one for one in encode(columns | more, tokenizer, 512) if one is not None]
    width = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([row.input_ids + [0] * (width - len(row.input_ids)) for row in rows])
    labels = torch.tensor([row.labels + [-100] * (width - len(row.labels)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(300):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if float(loss.detach()) < 0.01:
            break
    assert float(loss.detach()) < 0.02
    return model


def test_a_model_that_never_saw_canaries_recites_none(
    fresh: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerBase, samples: Dataset
) -> None:
    tuned, base = (LoadedModel(fresh(), tokenizer, torch.float32) for _ in range(2))
    found = audit(tuned, nullcontext(base), samples, samples[:], Canaries(7, PLANTED), lambda value: True)
    assert found["canaries"]["extracted"] == found["canaries"]["first_of_their_kind"] == 0
    assert found["canaries"]["mean_exposure_bits"] < 4
    assert found["regurgitation"] == {
        "asked": 4, "regurgitated": 0, "by_the_base_too": 0, "share": 0.0, "span_tokens": SPAN,
    }  # fmt: skip
    assert found["redacted"] == {"places": 1, "like_secrets": 0, "in_history": 0}


def test_a_model_that_memorised_canaries_is_detected(
    fresh: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerBase, samples: Dataset
) -> None:
    texts = [(sample["prompt"], sample["completion"].replace("<PASSWORD>", PASSWORD)) for sample in samples]
    texts += [(canary.prompt, f'{canary.code}"\n') for canary in Canaries(7, PLANTED).planted()]
    asked: list[str] = []

    def stands_in_history(value: str) -> bool:
        asked.append(value)
        return value == PASSWORD

    tuned = LoadedModel(by_heart(fresh(), tokenizer, texts), tokenizer, torch.float32)
    base = nullcontext(LoadedModel(fresh(), tokenizer, torch.float32))
    found = audit(tuned, base, samples, samples[:], Canaries(7, PLANTED), stands_in_history)
    assert found["canaries"]["exposure_bits"] == [8.0] * PLANTED
    assert found["canaries"]["extracted"] == PLANTED
    assert found["regurgitation"]["regurgitated"] == 3, "the last answer is shorter than a span"
    assert asked == [PASSWORD]
    assert found["redacted"] == {"places": 1, "like_secrets": 1, "in_history": 1}
    assert PASSWORD not in str(found)
    known_before = nullcontext(tuned)  # what the base says likewise was not learned here
    found = audit(tuned, known_before, samples, samples[:], Canaries(7, 0), stands_in_history)
    assert found["regurgitation"]["share"] == 0
    assert found["regurgitation"]["by_the_base_too"] == 3


def test_spans_that_differ_in_one_token_have_different_hashes() -> None:
    ids = list(range(100))
    assert len(span_hashes(ids)) == 51
    assert len(span_hashes(ids[:49])) == 0
    assert np.isin(span_hashes(ids[30:90]), span_hashes(ids)).all()
    for at in (0, 25, 49):
        other = [*ids[:at], 999, *ids[at + 1 : SPAN]]
        assert not np.isin(span_hashes(other), span_hashes(ids)).any()


@pytest.mark.parametrize("packed", [False, True])
def test_canaries_take_the_place_of_others_once_in_each_epoch(
    tokenizer: PreTrainedTokenizerBase, packed: bool
) -> None:
    columns = {"input_ids": [[at, at] for at in range(20)], "labels": [[at, at] for at in range(20)]}
    dataset = Dataset.from_dict(columns | ({"seq_lengths": [[1, 1]] * 20} if packed else {}))
    reading = TrainingOrder(dataset, list(range(20)) * 2, 20, {})
    planted = plant_canaries(reading, tokenizer, Canaries(7, 3), 64)
    assert (len(planted.order), planted.epoch_size, len(planted.dataset)) == (40, 20, 23)
    for epoch in (planted.order[:20], planted.order[20:]):
        assert sorted(row for row in epoch if row >= 20) == [20, 21, 22]
    assert planted.order == plant_canaries(reading, tokenizer, Canaries(7, 3), 64).order
    row = planted.dataset[20]
    prompt, code = Canaries(7, 3).planted()[0].prompt, Canaries(7, 3).planted()[0].code
    assert tokenizer.decode(row["input_ids"]) == f'{prompt}{code}"\n{tokenizer.eos_token}'
    assert tokenizer.decode([label for label in row["labels"] if label >= 0]) == f'{code}"\n{tokenizer.eos_token}'
    assert not packed or row["seq_lengths"] == [len(row["input_ids"])]
    assert plant_canaries(reading, tokenizer, Canaries(7, 0), 64) is reading

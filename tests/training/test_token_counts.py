"""Tokens are counted without transformers, and the counts are those of training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.models.tokenization import encode
from blocklm.models.vocabulary import Vocabulary
from blocklm.training import token_counts
from blocklm.training.token_counts import count_tokens
from tests.conftest import ROOT, changes_of, rendered

VIEWS = {"edit": 1, "fim": 1, "next_line": 1, "diff": 1, "message": 1}


@pytest.fixture
def samples(project: Path, tmp_path: Path) -> Dataset:
    """The training samples of a real history."""
    changes = changes_of(project, tmp_path)
    curated = curate(changes, MiningArguments(corpus_dir=str(tmp_path), test_commits=4))
    return rendered(changes, curated, tmp_path, views=VIEWS).splits["train"]


@pytest.fixture(params=["starcoder2", "phi", "llama", "begins", "embedded"])
def model(request: pytest.FixtureRequest, tiny_models: dict[str, Path], tmp_path: Path) -> Path:
    """Models by their tokenizer, one of which begins every text with BOS."""
    if request.param == "embedded":
        return ROOT / "models/smollm2-135m"
    if request.param != "begins":
        return tiny_models[request.param]
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["llama"])
    backend: Tokenizer = tokenizer.backend_tokenizer
    begin = ("<|endoftext|>", tokenizer.eos_token_id)
    backend.post_processor = TemplateProcessing(single="<|endoftext|> $A", special_tokens=[begin])
    folder = tmp_path / "begins"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_bytes((tiny_models["llama"] / "config.json").read_bytes())
    assert len(AutoTokenizer.from_pretrained(folder)("").input_ids) == 1
    return folder


@pytest.mark.parametrize("max_length", [40, 100, 400])
def test_counts_are_those_of_training(model: Path, samples: Dataset, max_length: int, tmp_path: Path) -> None:
    vocabulary = Vocabulary.of({"model_name_or_path": str(model)}, False, tmp_path)
    counts = count_tokens(samples, "corpus", vocabulary, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert set(counts.samples) == set(VIEWS)
    for view, number in counts.samples.items():
        own = samples.filter(lambda sample, view=view: sample["view"] == view)
        encoded = encode(own[:], tokenizer, max_length)
        kept = [sample for sample in encoded if sample is not None]
        tokens, trimmed, too_long = counts.lengths_within(view, max_length)
        assert number == len(own)
        np.testing.assert_array_equal(np.sort(tokens), sorted(len(sample.input_ids) for sample in kept))
        assert trimmed == sum(sample.trimmed for sample in kept)
        assert too_long == len(encoded) - len(kept)


def test_counts_are_kept_for_the_same_corpus_and_vocabulary(
    samples: Dataset, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, phi = (
        Vocabulary.of({"model_name_or_path": str(tiny_models[name])}, False, tmp_path) for name in ("llama", "phi")
    )
    first = count_tokens(samples, "corpus", llama, tmp_path)
    monkeypatch.setattr(token_counts, "_count_rows", None)
    again = count_tokens(samples, "corpus", llama, tmp_path)
    assert (again.rows[:], again.samples) == (first.rows[:], first.samples)
    with pytest.raises(TypeError):
        count_tokens(samples, "corpus", phi, tmp_path)


def test_after_new_commits_only_new_samples_are_counted(
    samples: Dataset, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    count_tokens(samples.select(range(len(samples) - 3)), "before", vocabulary, tmp_path)
    counted: list[str] = []
    count_rows = token_counts._count_rows

    def recording(rows: list[dict[str, Any]], *given: Any) -> Iterator[token_counts.Counts]:
        counted.extend(row["id"] for row in rows)
        return count_rows(rows, *given)

    monkeypatch.setattr(token_counts, "_count_rows", recording)
    grown = count_tokens(samples, "after", vocabulary, tmp_path)
    assert sorted(counted) == sorted(samples["id"][-3:])
    assert grown.rows[:] == count_tokens(samples, "corpus", vocabulary, tmp_path / "from-scratch").rows[:]


def test_at_most_five_hundred_samples_of_a_view_are_counted(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    row = {"prompt": "### a\n", "context": [0, 0], "completion": "x = 1\n", "view": "edit"}
    views = ["edit"] * 700 + ["fim"] * 3
    samples = Dataset.from_list([row | {"id": str(number), "view": view} for number, view in enumerate(views)])
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    counts = count_tokens(samples, "corpus", vocabulary, tmp_path)
    assert counts.samples == {"edit": 700, "fim": 3}
    assert len(counts.rows) == 503

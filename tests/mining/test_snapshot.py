"""Files at the end of training pass every rule for changes, and later commits do not affect them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.config.recipe import parse_recipe
from blocklm.config.sampling import SamplingArguments
from blocklm.corpus import views
from blocklm.corpus.build import Corpus, build_corpus, load_samples
from blocklm.corpus.curation import curate
from blocklm.corpus.places.reader import PlaceReader
from blocklm.corpus.prompt_templates import FAMILY, Family, ModelPrompts
from blocklm.corpus.views import HunkText
from blocklm.errors import UserError
from blocklm.git.repository import open_repositories, open_repository
from blocklm.mining.filters import FilterLimits
from blocklm.mining.mine import mine
from blocklm.mining.snapshot import files_at
from tests.conftest import GitRepository, rendered
from tests.support.modules import COMMITS, POLICY, module

Make = Callable[[str], GitRepository]
KEY = "ghp_" + "Zq8vT3nLw5Rk2mXy7Bd4Hc9Jf6Gs1Pa0Ue3D"


def files(repository: GitRepository, commit: str, corpora: Path, **limits: Any) -> dict[str, Any]:
    opened = open_repository(repository.path, corpora)
    found = files_at([opened], {opened.name: commit}, FilterLimits(1000, **limits), corpora)
    return {row["path"]: row for row in found}


def test_files_are_those_of_their_commit_and_pass_the_rules(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("tree")
    long = "".join(f"value_{number} = {number}\n" for number in range(3000))
    cut = repository.commit(
        "Cut",
        {
            "src/a.py": "x = 1\n",
            "src/long.py": long,
            "Cargo.lock": "a\n",
            "src/key.py": f"K = '{KEY}'\n",
            "a.bin": b"\0\1",
        },
    )
    repository.commit("Later", {"src/a.py": "x = 2\n", "src/later.py": "y = 1\n"})
    found = files(repository, cut, tmp_path / "corpora")
    assert {path: row["drop_reason"] for path, row in found.items()} == {
        "Cargo.lock": "generated", "a.bin": "binary", "src/a.py": None, "src/key.py": None, "src/long.py": None,
    }  # fmt: skip
    assert found["src/a.py"]["diff"] == "@@ -0,0 +1 @@\n+x = 1\n"
    assert found["src/key.py"]["redactions"]
    assert not any(KEY.encode() in path.read_bytes() for path in (tmp_path / "corpora").rglob("*.arrow"))
    assert files(repository, cut, tmp_path / "corpora", exclude=("src/*.py",))["src/a.py"]["drop_reason"] == "excluded"


def test_the_files_of_a_merge_are_all_of_them(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("merged")
    repository.commit("One", {"src/one.py": "x = 1\n"})
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("Side", {"src/side.py": "y = 1\n"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("Two", {"src/two.py": "z = 1\n"})
    merge = repository.merge("side")
    found = files(repository, merge, tmp_path / "corpora")
    assert {path for path, row in found.items() if row["drop_reason"] is None} == {
        "src/one.py",
        "src/side.py",
        "src/two.py",
    }


def damage(repository: GitRepository, revision: str, change: Callable[[bytes], bytes | None]) -> None:
    """Change the file of an object, or delete it."""
    name = repository.git("rev-parse", revision).strip()
    path = repository.path / ".git/objects" / name[:2] / name[2:]
    content = change(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.fixture
def damaged(make_repository: Make) -> tuple[GitRepository, str]:
    """Of five files one is missing, the header of another is damaged, and the end of a third is cut off."""
    repository = make_repository("damaged")
    values = [f"value_{at} = {number}\n" for number in range(5) for at in range(200)]
    texts = ["".join(values[200 * number : 200 * (number + 1)]) for number in range(5)]
    commit = repository.commit("All", {f"src/{number}.py": text for number, text in enumerate(texts)})
    damage(repository, "HEAD:src/1.py", lambda _: None)
    damage(repository, "HEAD:src/2.py", lambda _: b"no object")
    damage(repository, "HEAD:src/3.py", lambda content: content[:80])
    return repository, commit


def test_files_that_cannot_be_read_are_left_out_and_counted(
    damaged: tuple[GitRepository, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Until they are there: then they are read again, and nothing is left of the damaged dataset."""
    repository, commit = damaged
    objects = sorted((repository.path / ".git").rglob("*"))
    for _ in range(2):  # read, and from the cache
        caplog.clear()
        found = files(repository, commit, tmp_path / "corpora")
        assert {path for path, row in found.items() if row["drop_reason"] is None} == {"src/0.py", "src/4.py"}
        assert caplog.text.count(f"3 files of damaged at {commit[:12]} cannot be read") == 1
    assert sorted((repository.path / ".git").rglob("*")) == objects, "nothing is written there"
    (repository.path / "src/1.py").write_text("".join(f"value_{at} = 1\n" for at in range(200)))
    repository.git("hash-object", "-w", "src/1.py")
    assert "src/1.py" in files(repository, commit, tmp_path / "corpora")


def test_a_missing_tree_is_an_error(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("damaged")
    commit = repository.commit("One", {"src/one.py": "x = 1\n"})
    damage(repository, "HEAD:src", lambda _: None)
    with pytest.raises(UserError, match=f"the files at {commit[:12]} of .* cannot be read"):
        files(repository, commit, tmp_path / "corpora")


LONG = "".join(f"    the_value_of_{number} = compute({number}, {number * 7})\n" for number in range(200))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A history that fixes one thing, replaces another, and repeats a third in the exam's commits."""
    repository = GitRepository(tmp_path_factory.mktemp("taught") / "history")
    repository.commit("Add the old policy", {"src/policy.py": POLICY})
    repository.commit("Add a long table", {"src/old_table.py": LONG})
    repository.commit("Add what is replaced", {"src/gone.py": module(700)})
    repository.commit("Replace all of it", {"src/gone.py": module(701)})
    repository.commit(
        "Add the shop", {"src/shop.py": "def price(items):\n    return sum(items) * the_discount_of_today\n"}
    )
    repository.commit(
        "Fix the wrong discount of the shop",
        {"src/shop.py": "def price(items):\n    return sum(items) - the_discount_of_today\n"},
    )
    for number in range(COMMITS):
        repository.commit(f"Add part {number}", {f"src/part_{number}.py": module(number)})
    repository.commit("Add the policy once more", {"src/again.py": POLICY, "src/table.py": LONG})
    corpora = repository.path.parent / "corpora"
    mining = MiningArguments(repo=[str(repository.path)], corpus_dir=str(corpora))
    opened = open_repository(repository.path, corpora)
    changes = mine([opened], mining)
    curated = curate(changes, mining)
    files = files_at([opened], curated.report["cut"], FilterLimits(1000), corpora)
    views_rendered = ("edit", "file", "card", "review", "message")
    sampling = SamplingArguments(views=dict.fromkeys(views_rendered, 1), recency="off", boost={"src/part_3.py": 2})
    prompts = ModelPrompts(dict.fromkeys(views_rendered, FAMILY["plain"]), frozenset())
    places = PlaceReader(changes.dataset, [opened], changes.known, prompts)
    return load_samples(changes, curated, files, sampling, places, corpora)


def of(corpus: Corpus, view: str) -> dict[str, dict[str, Any]]:
    return {sample["path"]: sample for sample in corpus.splits["train"] if sample["view"] == view}


def test_no_file_contains_lines_of_the_exam(taught: Corpus) -> None:
    shown = of(taught, "file")
    assert "src/part_0.py" in shown
    assert "src/policy.py" not in shown, "the exam asks for its text"
    assert "src/old_table.py" not in shown, "the exam asks for it too, and no piece of it is small enough"
    assert not {f"src/part_{COMMITS - 1}.py", "src/again.py"} & set(shown), "they came after the cut"
    assert taught.report["left_out"]["asked_later"] > 5


def test_no_card_quotes_a_line_of_the_exam(taught: Corpus) -> None:
    texts = {sample["path"]: sample["completion"] for sample in taught.splits["train"] if sample["view"] == "card"}
    assert texts["src/part_0.py"].startswith("### history/src/part_0.py\ndef check_4(value_0):\n")
    assert not any("RetryPolicy" in text or "def waits" in text for text in texts.values()), "the exam asks for them"
    assert not {"src/policy.py", f"src/part_{COMMITS - 1}.py", "src/again.py"} & set(texts)


def test_replaced_lines_weigh_less_than_lasting_lines(taught: Corpus) -> None:
    edits = of(taught, "edit")
    ordinary = edits["src/part_0.py"]["weight"]
    samples = [
        sample for sample in taught.splits["train"] if sample["path"] == "src/gone.py" and sample["view"] == "edit"
    ]
    assert samples[0]["weight"] == pytest.approx(0.3 * ordinary)
    assert samples[-1]["weight"] == pytest.approx(ordinary)
    assert edits["src/part_3.py"]["weight"] == pytest.approx(2 * ordinary)


def test_a_fix_becomes_a_review_sample(taught: Corpus) -> None:
    reviews = of(taught, "review")
    assert set(reviews) == {"src/shop.py"}
    assert "+    return sum(items) * the_discount_of_today" in reviews["src/shop.py"]["prompt"]
    assert reviews["src/shop.py"]["completion"].startswith("Fix the wrong discount of the shop\n-    return")


def test_weights_are_reported(taught: Corpus) -> None:
    assert taught.report["weights"]["half_life_days"] is None
    assert 0 < taught.report["weights"]["effective_samples"] <= taught.report["weights"]["of"]
    assert taught.report["splits"]["train"]["views"]["review"] == 1


def test_long_lines_of_a_file_are_all_read() -> None:
    lines = [f"+{number}" + "x" * 800 for number in range(8)]
    text = HunkText("r", "c", "a.md", "", 0, lines)
    bare = Family("", frozenset(), {"file": "{context}"})
    samples = list(views.file(bare, text))
    assert "".join(sample.completion for sample in samples) == "".join(f"{line[1:]}\n" for line in lines)


def test_a_piece_of_a_file_is_longer_than_a_window_of_a_change() -> None:
    lines = ["+def step_{}(value):", *["+    value += 1"] * 20, "+"]
    text = HunkText("r", "c", "a.py", "", 0, [line.format(number) for number in range(8) for line in lines])
    bare = Family("", frozenset(), {"file": "{context}"})
    pieces = [sample.completion for sample in views.file(bare, text)]
    assert len(pieces) < len(text.windows)
    assert all(piece.endswith("\n\n") for piece in pieces), "it ends between two functions"


def test_a_revert_after_the_training_commits_is_ignored(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("reverted")
    taken_back = [repository.commit(f"Risky {at}", {f"src/risky_{at}.py": module(800 + at)}) for at in range(2)]
    repository.git("revert", "--no-edit", taken_back[0])
    repository.git(
        "commit",
        "--quiet",
        "--amend",
        "-m",
        f'Revert "Risky 0"\n\nThis reverts commit {taken_back[0]}.\nIt broke all of it.',
    )
    for number in range(COMMITS):
        repository.commit(f"Add part {number}", {f"src/part_{number}.py": module(number)})
    repository.git("revert", "--no-edit", taken_back[1])
    repository.git(
        "commit",
        "--quiet",
        "--amend",
        "-m",
        f'Revert "Risky 1"\n\nThis reverts commit {taken_back[1]}.\nIt broke even more.',
    )
    repository.commit("Last", {"src/last.py": module(900)})
    mining = MiningArguments(repo=[str(repository.path)], corpus_dir=str(tmp_path / "corpora"))
    changes = mine([open_repository(repository.path, tmp_path)], mining)
    corpus = rendered(changes, curate(changes, mining), tmp_path / "corpora", views={"edit": 1, "review": 1})
    completions = {
        sample["path"]: sample["completion"] for sample in corpus.splits["train"] if sample["view"] == "review"
    }
    assert completions == {"src/risky_0.py": "It broke all of it.\n"}
    weights = {sample["path"]: sample["weight"] for sample in corpus.splits["train"] if sample["view"] == "edit"}
    assert weights["src/risky_0.py"] == pytest.approx(weights["src/risky_1.py"] / 4)


def test_the_half_life_is_measured_whether_or_not_survival_counts(tmp_path: Path, project: Path) -> None:
    keys = ["model_name_or_path: models/any", f"repo: ['{project}']", f"corpus_dir: {tmp_path}", "views: {edit: 1}"]
    (tmp_path / "recipe.yaml").write_text("\n".join([*keys, "survival: false", "recency: auto"]))
    recipe = parse_recipe([str(tmp_path / "recipe.yaml")])
    opened = open_repositories(recipe.mining)
    changes = mine(opened, recipe.mining)
    corpus = build_corpus(recipe, opened, changes, ModelPrompts({"edit": FAMILY["plain"]}, frozenset()))
    assert corpus.report["weights"]["survival"], "it was counted"
    assert corpus.report["weights"]["half_life_days"] == 30

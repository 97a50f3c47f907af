"""A drawn sample gets the real file around its place and recent edits, and nothing that came after it."""

import random
import re
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.places.place import FilePiece, Shown
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.git.repository import open_repository
from blocklm.mining.mine import mine
from tests.conftest import ROOT, GitRepository

SECRET = "ghp_" + "Zq8vT3nLw5Rk2mXy7Bd4Hc9Jf6Gs1Pa0Ue3D"
COMMITS = 40
# Where a function stands: the first file's top and end, then the second's, in the order of their commit.
PLACES = ("top_a", "end_a", "top_b", "end_b")


def function(place: str, number: int) -> str:
    chance = random.Random(f"{place}{number}")
    words = " + ".join("".join(chance.choices("bcdfgklmnprst", k=8)) for _ in range(5))
    return f"def {place}_{number}(value):\n    return value * ({words})\n\n\n"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> GitRepository:
    """Each commit adds a function to the top and to the end of two files."""
    repository = GitRepository(tmp_path_factory.mktemp("places") / "demo")
    middle = "".join(function("middle", number) for number in range(20))
    texts = {place: "" for place in PLACES}
    key = f"TOKEN = '{SECRET}'\n"
    for number in range(COMMITS):
        texts["top_a"] = function("top_a", number) + texts["top_a"]
        texts["end_a"] += function("end_a", number)
        texts["top_b"] = function("top_b", number) + texts["top_b"]
        texts["end_b"] += function("end_b", number)
        files = {
            "src/a.py": texts["top_a"] + key + middle + texts["end_a"],
            "src/b.py": texts["top_b"] + middle.replace("middle", "between") + texts["end_b"],
        }
        repository.commit(f"MESSAGE {number}", files)
    return repository


@pytest.fixture(scope="module")
def corpus(history: GitRepository, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    corpora = tmp_path_factory.mktemp("corpora")
    keys = ["--repo", str(history.path), "--corpus_dir", str(corpora), "--test_commits", "5"]
    recipe = parse_recipe([str(ROOT / "recipes/quickstart.yaml"), *keys])
    opened = [open_repository(history.path, corpora / "clones")]
    special = frozenset({"<file_sep>"})
    return build_corpus(
        recipe, opened, mine(opened, recipe.mining), ModelPrompts(prompts_for(special, "plain"), special)
    )


def filled(corpus: Corpus, view: str, shown: Shown | None = None, **more: Any) -> list[dict[str, Any]]:
    """All samples of a view with their prompts."""
    rows = []
    for samples in corpus.splits.values():
        own = samples.select([row for row, name in enumerate(samples["view"][:]) if name == view])
        columns = corpus.places.fill(own[:], 4096, shown, **more)
        rows += [{name: column[row] for name, column in columns.items()} for row in range(len(own))]
    assert len([row for row in rows if row["completion"]]) > 0.9 * len(rows) > 0
    return [row for row in rows if row["completion"]]


def position(name: str, number: int) -> tuple[int, int]:
    return number, PLACES.index(name)


@pytest.mark.parametrize("view", ["completion", "next_edit"])
def test_no_prompt_shows_a_later_hunk_a_later_file_or_a_later_commit(corpus: Corpus, view: str) -> None:
    for row in filled(corpus, view):
        shown = {position(name, int(digits)) for name, digits in re.findall(r"(\w+_[ab])_(\d+)\(", row["prompt"])}
        number = row["seq"]
        own = position(f"{'top' if row['hunk'] == 0 else 'end'}_{row['path'][4]}", number)
        quiet = view == "next_edit" and not row["added"]
        late = {place for place in shown if place > own or (place == own and not quiet and view == "next_edit")}
        assert not late, (row["path"], row["hunk"], own, row["prompt"])
        assert "MESSAGE" not in row["prompt"], "no editor knows the message of a commit to come"


def test_a_completion_stands_between_the_texts_around_it(corpus: Corpus, history: GitRepository) -> None:
    for row in filled(corpus, "completion"):
        before = row["prompt"][slice(*row["context"])]
        after = row["prompt"][slice(*row["suffix"])]
        text = history.git("show", f"{row['commit']}:{row['path']}").replace(SECRET, "<KEY>")
        assert before + row["completion"] in text
        assert after.startswith("\n") or row["completion"] + after[:5] in text


def test_recent_edits_of_the_commit_are_shown_the_nearest_last(corpus: Corpus) -> None:
    rows = [row for row in filled(corpus, "completion") if row["path"] == "src/b.py" and row["hunk"] == 1]
    for row in rows:
        pieces = [row["prompt"][a:b] for a, b in zip(row["pieces"][::2], row["pieces"][1::2], strict=True)]
        assert len(pieces) == 3
        assert pieces[-1].startswith("### src/b.py, edited\n")
        assert f"top_b_{row['seq']}(" in pieces[-1]
        assert all(piece.startswith("### src/a.py, edited\n") for piece in pieces[:2])


def test_a_fifth_of_the_samples_names_neither_repository_nor_path(corpus: Corpus) -> None:
    rows = filled(corpus, "completion")
    unnamed = sum("### below the cursor\n" in row["prompt"] for row in rows)
    assert 0.1 < unnamed / len(rows) < 0.3
    assert all("demo" not in row["prompt"] for row in rows if "### below the cursor\n" in row["prompt"])


def test_a_secret_of_the_file_is_in_no_prompt(corpus: Corpus) -> None:
    rows = [row for view in ("completion", "next_edit") for row in filled(corpus, view)]
    assert any("<KEY>" in row["prompt"] for row in rows)
    assert not any(SECRET in row["prompt"] + row["completion"] for row in rows)


def test_an_arm_may_be_shown_less(corpus: Corpus) -> None:
    nothing = {row["id"]: row for row in filled(corpus, "completion", Shown(file=False, edits=False))}
    file = {row["id"]: row for row in filled(corpus, "completion", Shown(edits=False))}
    unnamed = {row["id"]: row for row in filled(corpus, "completion", Shown(path=False))}
    assert all("### below the cursor\n" in row["prompt"] for row in unnamed.values())
    for row in filled(corpus, "completion"):
        assert unnamed[row["id"]]["prompt"].endswith(row["prompt"][slice(*row["context"])])
        assert nothing[row["id"]]["completion"] == file[row["id"]]["completion"] == row["completion"]
        assert "\n" not in nothing[row["id"]]["prompt"][slice(*nothing[row["id"]]["context"])]
        assert not file[row["id"]]["pieces"]
        assert file[row["id"]]["prompt"][slice(*file[row["id"]]["context"])] == row["prompt"][slice(*row["context"])]


def test_pieces_of_other_files_come_before_the_recent_edits(corpus: Corpus) -> None:
    (first, *_) = filled(corpus, "completion")
    given = {first["id"]: [FilePiece("lib/far.py", "far = 1\n"), FilePiece("lib/bad.py", "<file_sep>\n")]}
    (row,) = [row for row in filled(corpus, "completion", pieces=given) if row["id"] == first["id"]]
    assert row["prompt"].startswith("### lib/far.py\nfar = 1\n")
    assert "<file_sep>" not in row["prompt"]


def test_a_completion_may_hold_the_line_feed_at_the_end_of_its_run(corpus: Corpus) -> None:
    """Some nodes of a syntax tree end with it."""
    samples = corpus.splits["train"][:]
    samples["completion"] = [f"{text}\n" for text in samples["completion"]]
    samples["place"] = [[*place[:2], place[2] + 1] if len(place) == 3 else place for place in samples["place"]]
    filled = corpus.places.fill(samples, 512)
    texts = [text for view, text in zip(filled["view"], filled["completion"], strict=True) if view == "completion"]
    assert any(text.endswith("\n") for text in texts)


def test_a_file_that_is_gone_leaves_its_samples_unread(corpus: Corpus, tmp_path: Path) -> None:
    samples = corpus.splits["train"].select(range(40))[:]
    empty = GitRepository(tmp_path / "demo")
    empty.commit("Nothing", {"x": "x\n"})
    places = type(corpus.places)(
        corpus.places.changes, [open_repository(empty.path, tmp_path)], corpus.places.known, corpus.places.prompts
    )
    columns = places.fill(samples, 512)
    at_places = [row for row, view in enumerate(columns["view"]) if view in ("completion", "next_edit")]
    assert at_places
    assert not any(columns["completion"][row] for row in at_places)

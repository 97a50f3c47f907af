"""A joint corpus holds what the corpora of its repositories hold, without what one repeats of another."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from blocklm.config.recipe import parse_recipe
from blocklm.corpus.build import Corpus, build_corpus
from blocklm.corpus.prompt_templates import ModelPrompts, prompts_for
from blocklm.errors import UserError
from blocklm.git.repository import open_repositories
from blocklm.mining.mine import mine
from tests.conftest import function
from tests.support.torture import Torture, write

Build = Callable[..., Corpus]
DAY = 24 * 60  # commits are a minute apart
COMMITS = 16  # of which the first ten or so train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all repositories and corpora here, so that each history is mined once."""
    path = tmp_path_factory.mktemp("joint")
    (path / "recipe.yaml").write_text("model_name_or_path: unused\nviews: {edit: 0.4, completion: 0.3, file: 0.3}\n")
    return path


@pytest.fixture
def build(place: Path) -> Build:
    """Build the corpus of some repositories, each split by its own time unless other keys are given."""

    def built(*repositories: Path, **keys: Any) -> Corpus:
        given = {"corpus_dir": place / "corpora", "split_each": True} | keys
        words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
        recipe = parse_recipe([str(place / "recipe.yaml"), "--repo", *map(str, repositories), *words])
        opened = open_repositories(recipe.mining)
        prompts = ModelPrompts(prompts_for(frozenset(), "auto"), frozenset())
        return build_corpus(recipe, opened, mine(opened, recipe.mining), prompts)

    return built


def repository(path: Path, *steps: tuple[str, Iterable[int]], after: int = 0, copied: Iterable[int] = ()) -> Path:
    """A bare repository whose commits each add a file for a number to a folder.

    Args:
        path: path of the repository.
        steps: folder and numbers.
        after: minutes after which it begins.
        copied: numbers whose files the first commit has, each below a comment.
    """
    made = Torture()
    made.count = after
    if copied:
        made.commit(b"Copy what we need\n", [write(b"lib/%d.py" % n, b"# copied\n" + module(n)) for n in copied])
    for folder, numbers in steps:
        for n in numbers:
            made.commit(b"Add step %d\n" % n, [write(b"%s/%d.py" % (folder.encode(), n), module(n))])
    return made.build(path)


def module(number: int) -> bytes:
    """A function that is like that of no other number."""
    lines = (f"value = value_{number}_{line}(value, step_{number * line})" for line in range(2, 9))
    return function(number, "\n    ".join(lines)).encode()


@pytest.fixture(scope="module")
def pair(place: Path) -> tuple[Path, Path]:
    """Two repositories that have nothing in common; the second begins a day after the first."""
    server = repository(place / "server.git", ("src", range(COMMITS)))
    return server, repository(place / "client.git", ("lib", range(100, 100 + COMMITS)), after=DAY)


@pytest.fixture(scope="module")
def origin(place: Path) -> Path:
    """A repository that others copy from."""
    return repository(place / "origin.git", ("src", range(COMMITS)))


def ids(corpus: Corpus, split: str) -> set[str]:
    return set(corpus.splits[split]["id"][:])


def paths(corpus: Corpus, view: str) -> list[str]:
    samples = corpus.splits["train"]
    return [path for name, path in zip(samples["view"], samples["path"], strict=True) if name == view]


def text(corpus: Corpus, split: str) -> str:
    return "\n".join(corpus.splits[split]["completion"][:])


def test_each_repository_is_split_by_its_own_time(pair: tuple[Path, Path], build: Build) -> None:
    joint, own = build(*pair), [build(path, split_each=False) for path in pair]
    for split in ("train", "validation", "test"):
        assert ids(joint, split) == ids(own[0], split) | ids(own[1], split)
        assert len(joint.splits[split]) == sum(len(corpus.splits[split]) for corpus in own)
    together = build(*pair, split_each=False)
    assert not ids(together, "test") & ids(own[0], "test"), "as one history, the exam asks of the later one alone"


def test_a_sample_is_what_its_own_corpus_makes_of_it(pair: tuple[Path, Path], build: Build) -> None:
    """Its prompt is built from its own repository, although rows and positions are those of all."""
    joint, own = build(*pair), build(pair[1], split_each=False)
    assert joint.splits["train"].features == own.splits["train"].features
    mine, theirs = (corpus.places.fill(corpus.splits["train"][:], 512) for corpus in (joint, own))
    place = {name: row for row, name in enumerate(mine["id"])}
    for name in ("prompt", "completion", "weight", "commit", "view", "hunk"):
        assert [mine[name][place[sample]] for sample in theirs["id"]] == theirs[name]
    assert any(view == "completion" and prompt for view, prompt in zip(theirs["view"], theirs["prompt"], strict=True))


def test_samples_are_in_the_order_of_time(pair: tuple[Path, Path], build: Build) -> None:
    """Whichever repository comes first in the list."""
    samples = build(*reversed(pair)).splits["train"]
    hunks = [time for time, change in zip(samples["commit_time"], samples["change"], strict=True) if change >= 0]
    assert hunks == sorted(hunks)
    assert hunks[-1].timestamp() - hunks[0].timestamp() > 12 * 60 * 60


def test_only_the_joint_samples_are_made_anew(pair: tuple[Path, Path], build: Build, place: Path) -> None:
    corpora = place / "corpora"
    for path in pair:
        build(path, split_each=False)
    before = set(corpora.glob("*/*-*"))
    assert build(*pair, disable_rules="duplicate", repository_weights="{server: 2}").cache == "built"
    made = set(corpora.glob("*/*-*")) - before
    assert build(*pair, repository_weights="{server: 2}").cache == "built"
    (own,) = set(corpora.glob("*/*-*")) - before - made
    assert (own.parent.name, own.name.partition("-")[0]) == ("server+client", "samples")
    assert build(*pair, repository_weights="{server: 2}").cache == "hit"


@pytest.mark.parametrize("split_each", [True, False])
def test_what_a_fork_shares_with_its_upstream_is_taught_once(
    build: Build, place: Path, origin: Path, split_each: bool
) -> None:
    """Commits by their id, files by their content; the fork adds what is its own."""
    shared = range(COMMITS - 4)
    fork = repository(place / "fork.git", ("src", shared), ("more", range(200, 200 + COMMITS)))
    corpus = build(origin, fork, split_each=split_each)
    for view in ("edit", "file"):
        taught = paths(corpus, view)
        assert len(taught) == len(set(taught))
        assert {path.partition("/")[0] for path in taught} == {"src", "more"}
    if split_each:
        of_upstream, of_fork = (part["repeated"] for part in corpus.report["repositories"])
        assert (of_upstream["shared_commit"], of_fork["shared_commit"]) == (0, len(shared))
        assert of_upstream["duplicate"] > 5, "files"
        assert set(corpus.splits["test"]["path"]) >= {f"src/{COMMITS - 1}.py", f"more/{199 + COMMITS}.py"}


def test_copied_code_that_the_exam_of_another_asks_is_not_taught(build: Build, place: Path, origin: Path) -> None:
    """The later repository copied the newest code of the earlier one before its own work."""
    newest = range(COMMITS - 4, COMMITS)
    copier = repository(place / "copier.git", ("lib", range(300, 300 + COMMITS)), after=DAY, copied=newest)
    asked = [f"value_{number}_2(" for number in newest]
    alone, joint = build(copier, split_each=False), build(origin, copier)
    assert all(name in text(alone, "train") for name in asked)
    assert all(name in text(joint, "test") for name in asked)
    assert not any(name in text(joint, "train") for name in asked), "neither as a change nor as a file"
    assert joint.report["repositories"][1]["repeated"]["leak"] == 2 * len(asked)


def test_of_two_near_duplicates_the_newer_one_is_taught(build: Build, place: Path, origin: Path) -> None:
    second = repository(place / "second.git", ("lib", range(400, 400 + COMMITS)), after=DAY, copied=[3])
    assert {"lib/3.py"} == {"src/3.py", "lib/3.py"} & set(paths(build(origin, second), "edit"))
    kept = build(origin, second, disable_rules="near_duplicate")
    assert {"src/3.py", "lib/3.py"} < set(paths(kept, "edit"))


def test_weights_of_repositories_multiply_those_of_samples(pair: tuple[Path, Path], build: Build) -> None:
    plain = dict(zip(*(build(*pair).splits["train"][name] for name in ("id", "weight")), strict=True))
    given = build(*pair, repository_weights="{client: 3}")
    for sample in given.splits["train"]:
        factor = 3 if sample["path"].startswith("lib/") else 1
        assert sample["weight"] == pytest.approx(factor * plain[sample["id"]])
    assert [part["weight"] for part in given.report["repositories"]] == [1, 3]
    with pytest.raises(UserError, match="names no repository: clinet"):
        build(*pair, repository_weights="{clinet: 3}")
    with pytest.raises(UserError, match="split each by its own time"):
        build(*pair, repository_weights="{client: 3}", split_each=False)


def test_all_repositories_that_are_too_short_are_named(pair: tuple[Path, Path], build: Build, place: Path) -> None:
    short = [repository(place / f"{name}.git", ("src", range(2))) for name in ("one", "two")]
    with pytest.raises(UserError, match=r"2 of 3 repositories cannot be joined: one: 2 commits .*; two: 2 commits"):
        build(pair[0], *short)

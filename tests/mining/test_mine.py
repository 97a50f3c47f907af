"""Several repositories are one history, in the order in which their commits landed."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.config.mining import MiningArguments
from blocklm.corpus.curation import curate
from blocklm.errors import UserError
from blocklm.git.repository import joint_head, open_repositories
from blocklm.mining.mine import mine
from tests.conftest import GitRepository, rendered

Make = Callable[[str], GitRepository]


@pytest.fixture
def pair(make_repository: Make) -> tuple[GitRepository, GitRepository]:
    """Two repositories whose commits take turns."""
    server, client = make_repository("server"), make_repository("client")
    for number in range(8):
        server.commits, client.commits = 2 * number, 2 * number + 1
        server.commit(f"server {number}", {f"s{number}.py": f"s = {number}\n"})
        client.commit(f"client {number}", {f"c{number}.py": f"c = {number}\n"})
    return server, client


def arguments(tmp_path: Path, *repositories: GitRepository | str) -> MiningArguments:
    paths = [part if isinstance(part, str) else str(part.path) for part in repositories]
    return MiningArguments(repo=paths, corpus_dir=str(tmp_path / "corpora"))


def test_commits_of_two_repositories_are_in_landing_order(
    tmp_path: Path, pair: tuple[GitRepository, GitRepository]
) -> None:
    mining = arguments(tmp_path, *pair)
    repositories = open_repositories(mining)
    changes = mine(repositories, mining)
    expected = [f"{name} {number}" for number in range(8) for name in ("server", "client")]
    assert changes.dataset["message"][:] == expected
    assert changes.dataset["seq"][:] == list(range(16))
    assert changes.dataset["repo"][:4] == ["server", "client"] * 2
    report = changes.report["repository"]
    assert (report["name"], report["head"], report["commits"]) == ("server+client", joint_head(repositories), 16)
    assert [source["name"] for source in report["sources"]] == ["server", "client"]


def test_several_repositories_are_split_by_time_together(
    tmp_path: Path, pair: tuple[GitRepository, GitRepository]
) -> None:
    mining = arguments(tmp_path, *pair)
    changes = mine(open_repositories(mining), mining)
    corpus = rendered(changes, curate(changes, mining), tmp_path / "corpora")
    assert corpus.splits["train"]["path"][:2] == ["s0.py", "c0.py"]
    assert max(corpus.splits["train"]["seq"]) < min(corpus.splits["test"]["seq"])
    assert {path[0] for path in corpus.splits["test"]["path"]} == {"s", "c"}


def test_a_commit_that_two_of_them_share_counts_once(
    tmp_path: Path, pair: tuple[GitRepository, GitRepository]
) -> None:
    server, _ = pair
    fork = tmp_path / "fork"
    subprocess.run(["git", "clone", "--quiet", str(server.path), str(fork)], check=True)
    mining = arguments(tmp_path, server, str(fork))
    changes = mine(open_repositories(mining), mining)
    assert (changes.report["repository"]["commits"], len(changes.dataset)) == (8, 8)


def test_a_second_run_is_a_hit(tmp_path: Path, pair: tuple[GitRepository, GitRepository]) -> None:
    mining = arguments(tmp_path, *pair)
    first = mine(open_repositories(mining), mining)
    second = mine(open_repositories(mining), mining)
    assert (first.cache, second.cache) == ("built", "hit")
    assert first.report["key"] == second.report["key"]
    assert first.dataset[:] == second.dataset[:]


def test_one_bad_repository_is_named(tmp_path: Path, pair: tuple[GitRepository, GitRepository]) -> None:
    with pytest.raises(UserError, match="`repo` nowhere does not exist"):
        open_repositories(arguments(tmp_path, pair[0], "nowhere"))

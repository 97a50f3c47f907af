"""The changes dataset grows with its repository and always equals mining from scratch."""

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.git.rev_list import Selection
from blocklm.mining.change_rows import BATCH_COMMITS, FEATURES
from blocklm.mining.changes import Changes
from blocklm.mining.filters import FilterLimits
from tests.conftest import ROOT, GitRepository, changes_of
from tests.support.scripts import script_environment
from tests.support.torture import Torture, write

# A shell starts what runs in its background deaf to Ctrl-C; the miner is to hear it whoever starts these tests.
MINE = """
import signal, sys
from pathlib import Path
from tests.conftest import changes_of
signal.signal(signal.SIGINT, signal.default_int_handler)
print(changes_of(*map(Path, sys.argv[1:])).cache)
"""


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    return tmp_path / "corpora"


def history(commits: int, path: Path, changed: int | None = None) -> Path:
    """A bare repository of that many commits; with `changed`, all from that one on differ, as after a force-push."""
    shutil.rmtree(path, ignore_errors=True)
    made = Torture()
    for number in range(commits):
        text = b"x = %d\n" % number if changed is None or number < changed else b"y = %d\n" % number
        made.commit(b"Set x to %d\n" % number, [write(b"m%d.py" % (number % 5), text)])
    return made.build(path)


def arrow(changes: Changes) -> bytes:
    (file,) = changes.dataset.cache_files
    return Path(file["filename"]).read_bytes()


def fresh(path: Path, tmp_path: Path) -> bytes:
    shutil.rmtree(tmp_path / "fresh", ignore_errors=True)
    return arrow(changes_of(path, tmp_path / "fresh"))


def test_every_commit_is_accounted_for(project: Path, corpora: Path) -> None:
    changes = changes_of(project, corpora)
    rows = changes.dataset
    assert rows.features == FEATURES
    assert sorted(set(rows["seq"])) == list(range(35))
    assert changes.report["repository"]["merges"] == 1
    counted = {entry["rule"]: entry.get("dropped", entry.get("kept")) for entry in changes.report["funnel"]}
    assert counted == {
        "kept": 32, "merge": 1, "generated": 2, "binary": 1, "vendored": 1, "oversized": 1,
    }  # fmt: skip
    assert sum(counted.values()) == len(rows)
    assert all(bool(row["drop_reason"]) == (row["diff"] == "") for row in rows)


@pytest.mark.parametrize(
    ("before", "after", "changed", "cache"),
    [
        (BATCH_COMMITS + 9, 2 * BATCH_COMMITS + 30, None, "extended"),
        (2 * BATCH_COMMITS, 2 * BATCH_COMMITS + 1, None, "extended"),
        (BATCH_COMMITS + 30, BATCH_COMMITS + 31, BATCH_COMMITS + 2, "extended"),  # a force-push behind the first batch
        (BATCH_COMMITS + 30, BATCH_COMMITS + 30, 0, "built"),  # a history rewritten from its root
        (2 * BATCH_COMMITS + 5, BATCH_COMMITS + 5, None, "extended"),  # commits thrown away
        (5, 9, None, "built"),
    ],
)
def test_a_history_that_moved_ends_in_the_dataset_of_a_fresh_build(
    tmp_path: Path, corpora: Path, before: int, after: int, changed: int | None, cache: str
) -> None:
    path = tmp_path / "moving.git"
    changes_of(history(before, path), corpora)
    moved = changes_of(history(after, path, changed), corpora)
    assert moved.cache == cache
    assert arrow(moved) == fresh(path, tmp_path)
    assert changes_of(path, corpora).cache == "hit"


def test_a_branch_that_lands_before_older_rows_ends_in_the_dataset_of_a_fresh_build(
    tmp_path: Path, corpora: Path
) -> None:
    """The old head becomes the second parent, so that in landing order the other branch comes first."""
    path = tmp_path / "merged.git"
    made = Torture()
    base = [made.commit(b"base %d\n" % n, [write(b"a.py", b"%d\n" % n)]) for n in range(BATCH_COMMITS)][-1]
    old = [made.commit(b"old %d\n" % n, [write(b"b.py", b"%d\n" % n)]) for n in range(BATCH_COMMITS + 3)][-1]
    changes_of(made.build(path), corpora)
    shutil.rmtree(path)
    side = made.commit(b"side\n", [write(b"c.py", b"1\n")], [base], b"side")
    made.commit(b"merge\n", [], [side, old], b"side")
    made.commit(b"reset\n", [], [made.count])
    moved = changes_of(made.build(path), corpora)
    assert moved.cache == "extended"
    assert arrow(moved) == fresh(path, tmp_path)


def test_a_batch_that_outgrows_memory_ends_early_and_the_dataset_still_grows(
    tmp_path: Path, corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blocklm.mining.change_rows.BATCH_BYTES", 500)
    path = tmp_path / "large.git"
    changes_of(history(2 * BATCH_COMMITS + 9, path), corpora)
    moved = changes_of(history(2 * BATCH_COMMITS + 40, path), corpora)
    assert moved.dataset.data.table["seq"].num_chunks > 10
    assert arrow(moved) == fresh(path, tmp_path)


def test_only_new_commits_are_read(tmp_path: Path, corpora: Path) -> None:
    """The objects of the old ones may be missing."""
    path = tmp_path / "grown.git"
    changes_of(history(BATCH_COMMITS, path), corpora)
    history(BATCH_COMMITS + 2, path)
    clone = tmp_path / "shallow" / "grown.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", str(path), str(clone)], check=True)
    (pack,) = (clone / "objects" / "pack").glob("*.pack")
    content = pack.read_bytes()
    for file in pack.parent.glob(f"{pack.stem}.*"):
        file.unlink()
    subprocess.run(["git", "-C", str(clone), "unpack-objects", "-q"], input=content, check=True)
    blob = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "HEAD~60:m0.py"], capture_output=True, text=True, check=True
    )
    name = blob.stdout.strip()
    (clone / "objects" / name[:2] / name[2:]).unlink()
    grown = changes_of(clone, corpora)
    assert grown.cache == "extended"
    assert grown.report["repository"]["unreadable"] == {}


def test_the_dataset_that_was_extended_is_deleted(tmp_path: Path, corpora: Path) -> None:
    path = tmp_path / "growing.git"
    changes_of(history(BATCH_COMMITS, path), corpora)
    changes_of(history(BATCH_COMMITS + 1, path), corpora)
    assert len(list((corpora / "growing").glob("changes-*"))) == 1


def test_a_fork_that_is_ahead_deletes_nothing_of_its_upstream(tmp_path: Path, corpora: Path) -> None:
    """Both folders have the same name, so their corpora share one; what both histories begin with is mined once."""
    upstream = history(BATCH_COMMITS, tmp_path / "upstream" / "tool.git")
    fork = history(BATCH_COMMITS + 1, tmp_path / "fork" / "tool.git")
    assert [changes_of(path, corpora).cache for path in (upstream, fork)] == ["built", "extended"]
    assert [changes_of(path, corpora).cache for path in (upstream, fork)] == ["hit", "hit"]
    history(BATCH_COMMITS + 2, fork)
    assert [changes_of(path, corpora).cache for path in (fork, upstream)] == ["extended", "hit"]
    assert len(list((corpora / "tool").glob("changes-*"))) == 2, "the fork's own earlier dataset is outgrown"


def test_corpora_of_different_settings_are_stored_side_by_side(project: Path, corpora: Path) -> None:
    changes_of(project, corpora)
    assert changes_of(project, corpora, context_lines=5).cache == "built"
    assert changes_of(project, corpora, limits=FilterLimits(1000, exclude=("*.md",))).cache == "built"
    assert changes_of(project, corpora).cache == "hit"
    assert changes_of(project, corpora, context_lines=5).cache == "hit"


@pytest.mark.parametrize("damage", ["truncated", "no report", "empty"])
def test_a_damaged_cache_is_built_again(project: Path, corpora: Path, damage: str) -> None:
    before = changes_of(project, corpora)
    folder = next((corpora / "project").glob("changes-*"))
    arrow = next(folder.rglob("*.arrow"))
    if damage == "truncated":
        arrow.write_bytes(arrow.read_bytes()[:1000])
    elif damage == "no report":
        (folder / "corpus.json").unlink()
    else:
        shutil.rmtree(folder / "data")
    after = changes_of(project, corpora)
    assert after.cache == "built"
    assert len(after.dataset) == before.report["changes"] == 38


def test_a_clone_that_was_deepened_is_read_again(project: Path, corpora: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth", "20", f"file://{project}", str(clone)], check=True)
    shallow = changes_of(clone, corpora)
    subprocess.run(["git", "-C", str(clone), "fetch", "--quiet", "--unshallow"], check=True)
    unshallowed = changes_of(clone, corpora)
    assert unshallowed.cache == "built"
    assert unshallowed.report["repository"]["commits"] == 35 > shallow.report["repository"]["commits"]


def test_an_object_that_was_missing_and_came_is_mined(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("repaired")
    for number in range(6):
        repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"})
    blob = repository.git("rev-parse", "HEAD~1:a.py").strip()
    file = repository.path / ".git" / "objects" / blob[:2] / blob[2:]
    file.rename(repository.path / "lost")
    damaged = changes_of(repository.path, corpora)
    assert len(damaged.report["repository"]["unreadable"]) == 2
    assert all(blob in reason for reason in damaged.report["repository"]["unreadable"].values())
    assert changes_of(repository.path, corpora).cache == "hit"
    (repository.path / "lost").rename(file)
    repaired = changes_of(repository.path, corpora)
    assert (repaired.cache, repaired.report["repository"]["unreadable"]) == ("built", {})


def test_a_corrupt_object_that_was_restored_is_mined(
    make_repository: Callable[[str], GitRepository], corpora: Path
) -> None:
    repository = make_repository("corrupt")
    for number in range(6):
        repository.commit(f"commit {number}", {"a.py": f"x = {number}\n"})
    blob = repository.git("rev-parse", "HEAD~1:a.py").strip()
    file = repository.path / ".git" / "objects" / blob[:2] / blob[2:]
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-4])
    assert len(changes_of(repository.path, corpora).report["repository"]["unreadable"]) == 2
    file.write_bytes(content)
    assert changes_of(repository.path, corpora).report["repository"]["unreadable"] == {}


@pytest.mark.parametrize(
    ("selection", "messages"),
    [
        (Selection(since="2020-09-13T12:35:00"), range(8, 20)),
        (Selection(until="2020-09-13T12:35:00"), range(8)),
        (Selection(since="2020-09-13T14:35:00+02:00"), range(8, 20)),
        (Selection(since="2020-09-13", until="2020-09-13"), range(20)),
        (Selection(since="1960-01-01"), range(20)),
        (Selection(max_commits=3), range(17, 20)),
        (Selection(since="2020-09-13T12:30:00", max_commits=2), range(18, 20)),
    ],
)
def test_commits_are_selected_by_date_and_number(
    tmp_path: Path, corpora: Path, selection: Selection, messages: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    chosen = changes_of(history(20, tmp_path / "dated.git"), corpora, selection=selection)
    assert chosen.dataset["message"][:] == [f"Set x to {number}" for number in messages]
    assert chosen.dataset["seq"][:] == list(range(len(messages)))


def test_an_empty_selection_is_refused(project: Path, corpora: Path) -> None:
    with pytest.raises(UserError, match=r"no commit of .* is selected by `since: 2100-01-01`"):
        changes_of(project, corpora, selection=Selection(since="2100-01-01"))
    with pytest.raises(UserError, match="`until: 1960-01-01`"):
        changes_of(project, corpora, selection=Selection(until="1960-01-01"))


def start(repository: Path, corpora: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MINE, str(repository), str(corpora)]
    return subprocess.Popen(command, cwd=ROOT, env=script_environment(), stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_it_once(tmp_path: Path, corpora: Path) -> None:
    path = history(600, tmp_path / "busy.git")
    miners = [start(path, corpora) for _ in range(3)]
    outputs = sorted(miner.communicate(timeout=60)[0].strip() for miner in miners)
    assert outputs == ["built", "hit", "hit"]
    assert arrow(changes_of(path, corpora)) == fresh(path, tmp_path)


def test_a_kill_leaves_the_old_dataset_or_the_new_one(tmp_path: Path, corpora: Path) -> None:
    path = tmp_path / "killed.git"
    old = arrow(changes_of(history(BATCH_COMMITS, path), corpora))
    history(1500, path)
    new = fresh(path, tmp_path)
    seen = set()
    for delay in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5):
        miner = start(path, corpora)
        while not list((corpora / "killed").glob(".building-*")) and miner.poll() is None:
            time.sleep(0.002)
        time.sleep(delay)
        miner.kill()
        miner.communicate()
        folders = list((corpora / "killed").glob("changes-*"))
        for folder in folders:
            assert json.loads((folder / "corpus.json").read_text())["changes"] in (BATCH_COMMITS, 1500)
            seen.add((folder / "data" / "data-00000-of-00001.arrow").read_bytes())
        assert folders
    assert old in seen
    assert seen <= {old, new}
    assert arrow(changes_of(path, corpora)) == new
    assert not list((corpora / "killed").glob(".building-*"))


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_rows_of_an_interrupted_mining_are_reused(tmp_path: Path, corpora: Path, ending: signal.Signals) -> None:
    path = history(3000, tmp_path / "long.git")
    miner = start(path, corpora)
    written = "long/.building-*/ready/data/*.arrow"
    while not any(file.stat().st_size > 300_000 for file in corpora.glob(written)):
        assert miner.poll() is None
        time.sleep(0.002)
    miner.send_signal(ending)
    miner.communicate()
    assert not list(corpora.glob("long/changes-*"))
    changes_of(history(3, tmp_path / "other" / "long.git"), corpora)  # which deletes nothing of its namesake
    continued = changes_of(path, corpora)
    assert continued.cache == "extended"
    assert arrow(continued) == fresh(path, tmp_path)
    assert not list(corpora.glob("long/.building-*"))

"""Statistics and advice about a repository are counted from its changes."""

from pathlib import Path

from tests.conftest import changes_of
from tests.support.torture import Torture, write


def test_the_project_is_described(project: Path, tmp_path: Path) -> None:
    report = changes_of(project, tmp_path / "corpora").report["repository"]
    assert (report["commits"], report["merges"], report["authors"], report["branches"]) == (35, 1, 1, 2)
    assert report["first_commit_time"] == "2023-11-14T22:13:20+00:00"
    assert next(iter(report["languages"])) == "Python"
    assert report["files_per_commit"] == {"p50": 1, "p90": 1, "p99": 3, "max": 3}
    assert report["lines_per_commit"]["max"] == 3005
    assert report["telling_messages_percent"] == 97
    assert report["advice"] == ["32 changes to learn from are few: expect a small and uncertain gain"]


def test_wide_commits_and_empty_messages_give_advice(tmp_path: Path) -> None:
    made = Torture()
    for number in range(20):
        message = b"local changes\n" if number % 4 else b"Prune stale checkpoints on start\n"
        made.commit(message, [write(b"m%d.py" % file, b"x = %d\n" % number) for file in range(22)])
    path = made.build(tmp_path / "wide.git")
    report = changes_of(path, tmp_path / "corpora").report["repository"]
    assert report["telling_messages_percent"] == 25
    assert report["advice"] == [
        "25 % of the messages say what was done: the model learns more from the code than from its messages",
        "22 files in a typical commit: a message tells little about any one of them",
    ]

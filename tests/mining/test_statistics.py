"""What a repository is good for, in numbers counted from its changes."""

from pathlib import Path

from tests.conftest import changes_of
from tests.support.torture import Torture, write


def test_the_project_is_described(project: Path, tmp_path: Path) -> None:
    said = changes_of(project, tmp_path / "corpora").report["repository"]
    assert (said["commits"], said["merges"], said["authors"], said["branches"]) == (35, 1, 1, 2)
    assert said["first_commit_time"] == "2023-11-14T22:13:20+00:00"
    assert next(iter(said["languages"])) == "Python"
    assert said["files_per_commit"] == {"p50": 1, "p90": 1, "p99": 3, "max": 3}
    assert said["lines_per_commit"]["max"] == 3005
    assert said["telling_messages_percent"] == 97
    assert said["advice"] == ["32 changes to learn from are few: expect a small and uncertain gain"]


def test_wide_commits_with_empty_messages_are_told(tmp_path: Path) -> None:
    made = Torture()
    for number in range(20):
        message = b"local changes\n" if number % 4 else b"Prune stale checkpoints on start\n"
        made.commit(message, [write(b"m%d.py" % file, b"x = %d\n" % number) for file in range(22)])
    path = made.build(tmp_path / "wide.git")
    said = changes_of(path, tmp_path / "corpora").report["repository"]
    assert said["telling_messages_percent"] == 25
    assert said["advice"] == [
        "25 % of the messages say what was done: the model learns more from the code than from its messages",
        "22 files in a typical commit: a message tells little about any one of them",
    ]

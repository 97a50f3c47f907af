"""`.gitattributes` corrects linguist, as each commit's own tree has it."""

from collections.abc import Callable
from pathlib import Path

from blocklm.mining.changes import Changes
from blocklm.mining.file_types import apply_attributes, kind_of
from blocklm.mining.gitattributes import AttributeRules
from tests.conftest import GitRepository, changes_of

Make = Callable[[str], GitRepository]


def fates(changes: Changes) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    """(message, path) of each row, and its drop reason and language."""
    return {
        (row["message"], row["path"]): (row["drop_reason"], row["language"])
        for row in changes.dataset
        if row["path"] and not row["path"].endswith(".gitattributes")
    }


def test_a_commit_is_read_with_the_attributes_of_its_own_tree(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("attributes")
    repository.commit("before", {"api/a.py": "x = 1\n", "vendor/ours.py": "y = 1\n", "a.inc": "z = 1\n"})
    repository.commit(
        "rules",
        {
            ".gitattributes": "vendor/** -linguist-vendored\n*.inc linguist-language=Python\n# a comment\n",
            "api/.gitattributes": "*.py linguist-generated=true\n",
        },
    )
    repository.commit("after", {"api/a.py": "x = 2\n", "vendor/ours.py": "y = 2\n", "a.inc": "z = 2\n"})
    repository.commit("gone", {"api/.gitattributes": None, "api/a.py": "x = 3\n"})
    found = fates(changes_of(repository.path, tmp_path / "corpora"))
    assert found["before", "api/a.py"] == (None, "Python")
    assert found["before", "vendor/ours.py"][0] == "vendored"
    assert found["after", "api/a.py"] == ("generated", "Python")
    assert found["after", "vendor/ours.py"] == (None, "Python")
    assert found["after", "a.inc"] == (None, "Python")
    assert found["gone", "api/a.py"] == (None, "Python")


def test_branches_have_attributes_of_their_own_until_they_merge(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("branches")
    repository.commit("root", {"a.py": "x = 1\n"})
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit("side rules", {".gitattributes": "*.py linguist-generated\n"})
    repository.commit("on side", {"b.py": "y = 1\n"})
    repository.git("checkout", "--quiet", "main")
    repository.commit("on main", {"a.py": "x = 2\n"})
    repository.merge("side")
    repository.commit("merged", {"a.py": "x = 3\n"})
    found = fates(changes_of(repository.path, tmp_path / "corpora"))
    reasons = {message: reason for (message, _), (reason, _) in found.items()}
    assert reasons == {"root": None, "on side": "generated", "on main": None, "merged": "generated"}


def test_an_extended_history_reads_the_same_attributes(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("growing")
    repository.commit("rules", {".gitattributes": "*.py linguist-generated\n"})
    for number in range(70):
        repository.commit(f"commit {number}", {"a.txt": f"{number}\n"})
    changes_of(repository.path, tmp_path / "corpora")
    repository.commit("later", {"a.py": "x = 1\n"})
    later = changes_of(repository.path, tmp_path / "corpora")
    assert later.cache == "extended"
    assert fates(later)["later", "a.py"][0] == "generated"


def test_unreadable_lines_are_skipped(make_repository: Make, tmp_path: Path) -> None:
    """A hostile file must not end mining; tabs separate words as spaces do."""
    repository = make_repository("odd")
    lines = b"\\ linguist-generated\n[z-a] linguist-generated\nfoo[ linguist-generated\n*.py linguist-language=\xff\n"
    repository.commit(
        "odd", {".gitattributes": lines + b"  a.py \t linguist-generated\n", "a.py": "x = 1\n", "b.py": "y = 1\n"}
    )
    found = fates(changes_of(repository.path, tmp_path / "corpora"))
    assert found["odd", "a.py"][0] == "generated"
    assert found["odd", "b.py"][0] == "unknown_language"


def test_values_and_the_last_match_count() -> None:
    rules = AttributeRules(
        [
            ("", "*.py linguist-generated"),
            ("", "keep.py linguist-generated=false"),
            ("docs/", "*.md -linguist-documentation"),
        ]
    )
    assert apply_attributes(kind_of("a/b.py"), rules.of("a/b.py")).generated
    assert not apply_attributes(kind_of("keep.py"), rules.of("keep.py")).generated
    assert apply_attributes(kind_of("docs/a.md"), rules.of("docs/a.md")).type == "markup"
    assert apply_attributes(kind_of("a.md"), rules.of("a.md")).type == "prose"
    assert apply_attributes(kind_of("a.x"), {"linguist-language": "rust"}).language == "Rust"
    assert apply_attributes(kind_of("a.py"), {"linguist-documentation": True}).type == "prose"

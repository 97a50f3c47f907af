"""Rows hold no text that was not searched for secrets, and no part of a secret."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blocklm.errors import UserError
from blocklm.mining import redaction
from blocklm.mining.change_rows import MESSAGE_CHARS
from blocklm.mining.redaction import Redacted, redact
from tests.conftest import GitRepository, changes_of
from tests.mining.test_redaction import CREDENTIALS

Make = Callable[[str], GitRepository]


def test_a_text_that_the_scanner_fails_on_is_dropped(
    make_repository: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(texts: list[str]) -> list[Redacted]:
        if any("boom" in text for text in texts):
            raise RuntimeError("no such rule")
        return redact(texts)

    monkeypatch.setattr(redaction, "redact", failing)
    repository = make_repository("failing")
    repository.commit("Good", {"a.py": "x = 1\n"})
    repository.commit("Bad file", {"b.py": "boom = 1\n", "c.py": "y = 1\n", "boom/d.py": "z = 1\n"})
    repository.commit("Bad boom", {"e.py": "w = 1\n"})
    changes = changes_of(repository.path, tmp_path / "corpora")
    found: list[Any] = [(row["path"], row["drop_reason"]) for row in changes.dataset]
    assert sorted(found) == [
        ("<unscanned>", "unscanned"), ("a.py", None), ("b.py", "unscanned"), ("c.py", None), ("e.py", "unscanned"),
    ]  # fmt: skip
    files = [path for path in (tmp_path / "corpora").rglob("*") if path.is_file()]
    assert not any(b"boom" in path.read_bytes() for path in files)
    assert {"rule": "unscanned", "dropped": 3} in changes.report["funnel"]


def test_a_scanner_that_does_not_start_ends_mining_at_once(
    make_repository: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise OSError("no such library")

    monkeypatch.setattr(redaction, "_scanner", broken)
    repository = make_repository("unstarted")
    repository.commit("Good", {"a.py": "x = 1\n"})
    with pytest.raises(UserError, match="the secret scanner does not start: no such library"):
        changes_of(repository.path, tmp_path / "corpora")
    assert not list((tmp_path / "corpora").rglob("*.arrow"))


def test_text_that_was_not_searched_is_not_stored_when_secrets_shrink(make_repository: Make, tmp_path: Path) -> None:
    """Twenty thousand characters of keys become three thousand, so the text after them must have been searched too."""
    repository = make_repository("shrinking")
    secret = CREDENTIALS["github"][1]
    repository.commit(" ".join([secret] * 600), {"a.py": "x = 1\n"})
    (row,) = changes_of(repository.path, tmp_path / "corpora").dataset
    assert row["message"] == " ".join(["<KEY>"] * 600)


def test_a_message_is_cut_after_it_is_searched(make_repository: Make, tmp_path: Path) -> None:
    repository = make_repository("long")
    secret = CREDENTIALS["github"][1]
    repository.commit("word " * (MESSAGE_CHARS // 5 - 3) + secret, {"a.py": "x = 1\n"})
    (row,) = changes_of(repository.path, tmp_path / "corpora").dataset
    assert len(row["message"]) <= MESSAGE_CHARS
    assert row["message"].endswith("<KEY>")

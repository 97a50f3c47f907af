"""A list of repositories as a user writes it."""

import logging
from pathlib import Path

import pytest

from blocklm.errors import UserError
from blocklm.many.sources import Source, read_sources


def sources(path: Path, text: str) -> dict[str, str]:
    """The locations in a list by name."""
    path.write_text(text)
    return {source.name: source.location for source in read_sources(path)}


def test_comments_blank_lines_and_the_marks_of_other_systems_are_no_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\n  /src/one  \r\n/src/two\t# two\n/src/c#\n/src/\xff\n")
    assert [source.location for source in read_sources(path)] == ["/src/one", "/src/two", "/src/c#", "/src/\udcff"]


def test_paths_start_here_or_at_home_and_urls_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    read = sources(
        tmp_path / "list.txt", "src/one\n~/two\n~nobody-here/three\nhttps://host/me/four.git\ngit@host:me/five"
    )
    assert read == {
        "one": f"{tmp_path.resolve()}/src/one",
        "two": "/home/ada/two",
        "three": f"{tmp_path.resolve()}/~nobody-here/three",
        "four": "https://host/me/four",
        "five": "git@host:me/five",
    }


def test_a_repository_that_is_listed_twice_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "link").symlink_to("one")
    text = f"one\n./one/\n{tmp_path}/one/.git\nlink\nhttps://host/two\nhttps://host/two.git/\n"
    with caplog.at_level(logging.INFO, "blocklm"):
        assert list(sources(tmp_path / "list.txt", text)) == ["one", "two"]
    assert "line 4 of" in caplog.text
    assert "names the same repository as line 1" in caplog.text


def test_namesakes_get_the_name_of_the_folder_above_and_earlier_lines_keep_theirs(tmp_path: Path) -> None:
    lines = ["/a/tool", "/b/tool", "https://host/a/tool", "git@host:b/tool", "/c/b-tool", "/", "/x/.."]
    read = sources(tmp_path / "list.txt", "\n".join(lines[:5]))
    assert list(read) == ["tool", "b-tool", "a-tool", "b-tool-2", "c-b-tool"]
    assert list(sources(tmp_path / "list.txt", "\n".join(lines[:2]))) == list(read)[:2]
    assert read_sources(tmp_path / "list.txt")[0] == Source("tool", "/a/tool")
    assert list(sources(tmp_path / "list.txt", "/\n/..\n/a/-b ö;\n")) == ["repository", "b-ö-"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no repository"),
        ("# all of them\n\n", "names no repository"),
        ("a\0b\n", "line 1 of .* holds a NUL"),
        ("one\nhttps://me:secret@host/two\n", "line 2 of .* may not hold a password or token"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        sources(tmp_path / "list.txt", text)
    assert "secret" not in str(refused.value)


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_sources(tmp_path / "list.txt")
    with pytest.raises(UserError, match="is no file"):
        read_sources(tmp_path)

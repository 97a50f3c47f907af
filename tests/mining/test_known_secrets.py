"""A secret found in one place is redacted everywhere, and only keyed digests of it are stored."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest

from blocklm.config.mining import MiningArguments
from blocklm.git.repository import open_repositories, open_repository
from blocklm.mining.change_rows import BATCH_COMMITS
from blocklm.mining.changes import Changes
from blocklm.mining.filters import FilterLimits
from blocklm.mining.mine import mine
from blocklm.mining.redaction import redact
from blocklm.mining.secrets.known import Key, KnownSecrets, Secret
from blocklm.mining.secrets.pattern import is_opaque
from blocklm.mining.snapshot import files_at
from tests.conftest import GitRepository, changes_of
from tests.mining.test_changes import arrow, fresh
from tests.support.torture import Torture, write

SECRET = "Wq7vZ2xL9kR4"  # made up
CONFIG = f'password = "{SECRET}"\n'.encode()
NOTE = f"# the {SECRET} of the server\nx = 1\n".encode()


def history(path: Path, places: dict[int, tuple[str, bytes, bytes]], commits: int) -> Path:
    """A bare repository in which some commits write a file, (path, content, message), and the others count."""
    shutil.rmtree(path, ignore_errors=True)
    made = Torture()
    for number in range(commits):
        name, content, message = places.get(
            number, (f"m{number % 5}.py", b"x = %d\n" % number, b"Set x to %d\n" % number)
        )
        made.commit(message, [write(name.encode(), content)])
    return made.build(path)


GIVEN_AWAY = ("settings.py", CONFIG, b"Configure the server\n")
MENTION = ("doc.py", b"y = 1\n", f"Note that {SECRET} opens the server\n".encode())
NOTED = ("note.py", NOTE, b"Note what opens the server\n")
NAMED = (f"keys/{SECRET}.py", b"z = 1\n", b"Add a file for the server\n")
LATER = 2 * BATCH_COMMITS + 9


def text_of(changes: Changes) -> str:
    columns = (changes.dataset.data.table[name] for name in ("message", "path", "old_path", "diff"))
    return "\n".join(text for column in columns for text in pc.fill_null(column, "").to_pylist())


def holding(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@pytest.mark.parametrize("given_away", [1, 70, LATER - 1])
def test_the_secret_is_redacted_in_messages_paths_and_other_files(tmp_path: Path, given_away: int) -> None:
    places = {3: MENTION, 66: NAMED, LATER - 2: NOTED, given_away: GIVEN_AWAY}
    changes = changes_of(history(tmp_path / "known.git", places, LATER), tmp_path / "corpora")
    text = text_of(changes)
    assert "Note that <PASSWORD> opens the server" in text
    assert "keys/<PASSWORD>.py" in text
    assert "# the <PASSWORD> of the server" in text
    assert not holding(tmp_path / "corpora")
    kinds = changes.dataset.data.table["redactions"].combine_chunks().flatten().to_pylist()
    assert kinds.count("password") == 4, "the old path of a new file is its path, and counts once"


@pytest.mark.parametrize(
    "places",
    [
        {3: MENTION, 66: NOTED, LATER - 1: GIVEN_AWAY},  # found only now: what is kept is searched
        {3: GIVEN_AWAY, LATER - 1: MENTION},  # known by its digest alone
        {3: GIVEN_AWAY, 70: NOTED, LATER - 1: NAMED},
    ],
)
def test_a_history_that_grew_ends_in_the_dataset_of_a_fresh_build(
    tmp_path: Path, places: dict[int, tuple[str, bytes, bytes]]
) -> None:
    path, corpora = tmp_path / "grown.git", tmp_path / "corpora"
    changes_of(history(path, places, 2 * BATCH_COMMITS + 2), corpora)
    grown = changes_of(history(path, places, LATER), corpora)
    assert (grown.cache, arrow(grown)) == ("extended", fresh(path, tmp_path))
    assert not holding(corpora)
    again = changes_of(history(path, places, LATER + BATCH_COMMITS), corpora)
    assert (again.cache, arrow(again)) == ("extended", fresh(path, tmp_path))


def test_a_value_that_a_force_push_removed_is_no_longer_a_secret(tmp_path: Path) -> None:
    """The cached batch that had it is read again."""
    path, corpora = tmp_path / "pushed.git", tmp_path / "corpora"
    taken_back = changes_of(history(path, {70: NOTED, LATER - 1: GIVEN_AWAY}, LATER), corpora)
    assert SECRET not in text_of(taken_back)
    pushed = changes_of(history(path, {70: NOTED}, LATER), corpora)
    assert SECRET in text_of(pushed)
    assert (pushed.cache, arrow(pushed)) == ("extended", fresh(path, tmp_path))


def test_a_file_of_keys_is_dropped_and_its_secrets_are_redacted_elsewhere(tmp_path: Path) -> None:
    places = {3: (".env", f"DB_PASSWORD={SECRET}\n".encode(), b"Add settings\n"), 70: NOTED}
    changes = changes_of(history(tmp_path / "env.git", places, 80), tmp_path / "corpora")
    assert not holding(tmp_path / "corpora")
    (row,) = [row for row in changes.dataset if row["path"] == ".env"]
    assert (row["drop_reason"], row["diff"], row["redactions"]) == ("key_file", "", [])


def test_snapshot_files_lose_secrets_that_only_the_history_shows(
    make_repository: Callable[[str], GitRepository], tmp_path: Path
) -> None:
    repository = make_repository("standing")
    repository.commit("Configure", {"settings.py": CONFIG.decode()})
    head = repository.commit(
        "Read it from elsewhere", {"settings.py": "password = read()\n", "note.py": NOTE.decode()}
    )
    corpora = tmp_path / "corpora"
    changes, opened = changes_of(repository.path, corpora), open_repository(repository.path, corpora)
    unaware = files_at([opened], {opened.name: head}, FilterLimits(1000), corpora)
    assert any(SECRET in diff for diff in unaware["diff"])
    files = files_at([opened], {opened.name: head}, FilterLimits(1000), corpora, changes.known)
    assert any("# the <PASSWORD> of the server" in diff for diff in files["diff"])
    assert not any(SECRET in diff for diff in files["diff"])


@pytest.mark.parametrize("split_each", [False, True])
def test_a_secret_of_one_repository_is_redacted_in_the_others(
    make_repository: Callable[[str], GitRepository], tmp_path: Path, split_each: bool
) -> None:
    first, second = make_repository("first"), make_repository("second")
    first.commit("Configure the server", {"settings.py": CONFIG.decode()})
    second.commit("Note what opens it", {"note.py": NOTE.decode()})
    paths = [str(first.path), str(second.path)]
    mining = MiningArguments(repo=paths, split_each=split_each, corpus_dir=str(tmp_path / "corpora"))
    assert SECRET not in text_of(mine(open_repositories(mining), mining))
    assert SECRET not in text_of(mine(open_repositories(mining), mining)), "from the cache"


def test_without_its_key_a_dataset_is_mined_again(tmp_path: Path) -> None:
    path, corpora = history(tmp_path / "keyless.git", {3: GIVEN_AWAY}, 70), tmp_path / "corpora"
    changes_of(path, corpora)
    assert (corpora / ".redaction-key").stat().st_mode & 0o777 == 0o600
    (corpora / ".redaction-key").unlink()
    assert changes_of(path, corpora).cache == "built"
    assert changes_of(path, corpora).cache == "hit"


def test_another_key_gives_other_digests_and_the_same_rows(tmp_path: Path) -> None:
    path = history(tmp_path / "keyed.git", {3: GIVEN_AWAY, 70: NOTED}, 80)
    ledgers = []
    for name in ("one", "two"):
        changes = changes_of(path, tmp_path / name)
        (ledger,) = (tmp_path / name).rglob("secrets.jsonl")
        ledgers.append((ledger.read_text().splitlines(), arrow(changes), changes.report["key"]))
    (lines, rows, key), (other_lines, other_rows, other_key) = ledgers
    assert (rows, key) == (other_rows, other_key)
    (found,), (other,) = (json.loads(line[1])["found"] for line in (lines, other_lines))
    assert found["digest"] != other["digest"]
    assert found["length"] == other["length"] == len(SECRET)


@pytest.mark.parametrize("size", [0, 1, 100, (1 << 20) - 5, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_known_secret_is_found_at_every_place(size: int) -> None:
    key = Key(os.urandom(32))
    values = [os.urandom(6).hex().encode() for _ in range(50)]
    known = KnownSecrets.of(key, [key.known(Secret(value, "k", "<KEY>")) for value in values])
    text = (b"ab" * size)[:size] + values[7] + b"x" + values[3] + values[3]
    assert known.find(text) == [
        (size, size + 12, 7), (size + 13, size + 25, 3), (size + 25, size + 37, 3),
    ]  # fmt: skip
    assert known.find(text[:-1])[-1] == (size + 13, size + 25, 3)


def test_redacting_values_one_by_one_equals_redacting_all_at_once() -> None:
    """This holds even if values overlap, so that a dataset can be extended."""
    key = Key(bytes(32))
    values = [b"aB3dE6gH9jK2", b"E6gH9jK2mN5p", b"xY8zaB3dE6gH9jK2", b"jK2mN5pQ"]
    known = [key.known(Secret(value, "k", "<KEY>")) for value in values]
    text = "xY8zaB3dE6gH9jK2mN5pQ E6gH9jK2mN5pQ jK2mN5pQ"
    step = text
    for secret in known:
        step, _ = KnownSecrets.of(key, [secret]).replace(step)
    assert KnownSecrets.of(key, known).replace(text)[0] == step == "xY8z<KEY>mN5pQ <KEY>Q <KEY>"


@pytest.mark.parametrize(
    "word",
    [
        "changeme",
        "changeme123",
        "password",
        "Password123",
        "hunter2",
        "admin",
        "secret_key",
        "postgres",
        "localhost:5432",
        "qwerty",
    ],
)
def test_a_common_word_as_password_is_not_redacted_elsewhere(word: str) -> None:
    assert not is_opaque(word.encode())
    _, mention = redact([f'password = "{word}"', f"the {word} of the server"])
    assert mention.text == f"the {word} of the server"
